"""Run a model in bf16 in the compiled library; weights and KV cache are packed as `matmul.h` describes.

Rows of one prompt share the keys and values of its prefix. A row's result is bit-identical alone and in any batch.
"""

# R rows, P prefix tokens, V vocabulary, O outputs, I inputs of a matrix

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harmonixr_model.engine.row import PlacedToken
from harmonixr_model.engine.runner import MAX_CHUNK
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.nn.attention import rotation
from harmonixr_model.nn.block import gated_width
from harmonixr_model.nn.embedding import MusicEmbedding
from harmonixr_model.prompt.coordinates import NO_CONTROLS
from harmonixr_model.prompt.layout import InfillPrompt

PANEL, CACHE_LINE, HUGE_PAGE = 64, 64, 1 << 21
_PLACE = ("bar", "step", "slot", "previous")
_MAX_SUMS = 1024
_TOKEN = np.dtype(
    [(name, np.int64) for name in ("token", *_PLACE, "controls", "position", "logits_row", "prefix", "own")]
    + [(name, np.int64) for name in ("prefix_span", "own_span", "prefix_length", "own_position", "own_length")]
)
_POINTER = ctypes.c_void_p


class _Layer(ctypes.Structure):
    _fields_ = [(name, _POINTER) for name in ("attention_norm", "feedforward_norm")] + [
        (name, _POINTER) for name in ("attention_into", "attention_out", "feedforward_into", "feedforward_out")
    ]


class _Model(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("width", "layers", "heads", "gated", "vocabulary")] + [
        (name, _POINTER)
        for name in ("layer", "tokens", "bars", "steps", "slots", "previous", "norm", "cosine", "sine", "head")
    ]


@dataclass(frozen=True, slots=True)
class Segment:
    """Keys and values of one sequence, of every layer and head: `span` words a head, see `model.h`."""

    memory: npt.NDArray[np.uint32]
    address: int
    span: int
    length: int

    @classmethod
    def empty(cls, config: InfillConfig, length: int) -> Segment:
        """Allocate space for `length` tokens: zeros, which take no memory until they are written."""
        head = _padded(config.head_width)
        span = _padded(length) * head // 2
        memory = np.zeros(config.layers * 2 * config.heads * span, dtype=np.uint32)
        return cls(memory, memory.ctypes.data, span, length)


class NativeRunner:
    """The compiled forward pass. Use it from one thread; see `Runner` for the contract."""

    def __init__(self, model: InfillTransformer, library: ctypes.CDLL) -> None:
        if not is_supported(model.config):
            raise ValueError(f"the compiled library does not support this architecture: {model.config}")
        self.config = model.config
        self.stride = _padded(model.config.vocabulary)  # floats from one row of logits to the next
        self._library = library
        self._weights = _Weights(model)
        self._rows: list[tuple[Segment, Segment]] = []  # prefix and own tokens of each row
        # The sum of control embeddings for a combination of controls, and its address.
        self._sums: dict[tuple[int, ...], tuple[npt.NDArray[np.float32], int]] = {}

    @property
    def max_length(self) -> int:
        """The most tokens that a prompt and its fill may take together."""
        return self.config.max_length

    @property
    def address(self) -> ctypes.c_void_p:
        """The address of the weights in the library, valid as long as this object exists."""
        return _POINTER(ctypes.addressof(self._weights.model))

    @property
    def precision(self) -> str:
        """The number format of weights and products."""
        return "bf16"

    def prefill(self, prompt: InfillPrompt) -> Generator[None, None, Segment]:
        """Read a prefix, yielding after each layer."""
        length = len(prompt.prefix)
        segment = Segment.empty(self.config, length)
        tokens = np.zeros(length, dtype=_TOKEN)
        tokens["token"] = prompt.prefix
        # A prefix has no controls.
        for name, coordinate in zip(_PLACE, prompt.coordinates.T[: len(_PLACE)], strict=True):
            tokens[name] = coordinate
        tokens["position"] = tokens["own_position"] = np.arange(length)
        tokens["own"], tokens["own_span"], tokens["own_length"] = segment.address, segment.span, length
        x = np.empty((length, self.config.width), dtype=np.float32)
        model, count = ctypes.byref(self._weights.model), ctypes.c_int64(length)
        self._library.hx_embed(model, _pointer(tokens), count, _pointer(x))
        last = self.config.layers - 1
        for layer in range(last):
            first, stop = ctypes.c_int64(layer), ctypes.c_int64(layer + 1)
            self._library.hx_layers(model, _pointer(tokens), count, _pointer(x), first, stop)
            yield
        self._library.hx_write_cache(model, _pointer(tokens), count, _pointer(x), ctypes.c_int64(last))
        yield
        return segment

    def join(self, index: int, prefix: Segment, prompt: InfillPrompt) -> None:
        """Add a row that continues a prefix, which it shares with other rows."""
        self._rows[index:] = [(prefix, Segment.empty(self.config, prompt.tables.max_tokens))]

    def leave(self, index: int, last: int, *, length: int) -> None:
        """Remove a row and free its memory; the last row takes its index, without a copy."""
        self._rows[index] = self._rows[last]
        del self._rows[last:]

    def feed(self, chunks: Sequence[Sequence[PlacedToken]], positions: Sequence[int]) -> Tensor:
        """Append the chunks; return [R, V]."""
        rows = len(chunks)
        fed = []
        if len(self._sums) > _MAX_SUMS:
            self._sums.clear()
        # Tokens that share a prefix are neighbours: its keys and values are then read once for all of them.
        for row in sorted(range(rows), key=lambda row: self._rows[row][0].address):
            prefix, own = self._rows[row]
            spans = prefix.address, own.address, prefix.span, own.span, prefix.length
            start, chunk = positions[row], chunks[row]
            for position, placed in enumerate(chunk, start=start):
                *where, controls = placed
                logits_row = row if position + 1 == start + len(chunk) else -1
                own_position = position - prefix.length
                fed.append((*where, self._sum(controls), position, logits_row, *spans, own_position, own_position + 1))
        tokens = np.array(fed, dtype=_TOKEN)
        x = np.empty((len(fed), self.config.width), dtype=np.float32)
        logits = np.empty((rows, self.stride), dtype=np.float32)
        self._library.hx_forward(
            ctypes.byref(self._weights.model),
            _pointer(tokens),
            ctypes.c_int64(len(fed)),
            _pointer(x),
            _pointer(logits),
            ctypes.c_int64(self.stride),
        )
        return torch.from_numpy(logits)[:, : self.config.vocabulary]

    def _sum(self, controls: tuple[int, ...]) -> int:
        """Return the address of the sum of these controls' embeddings, 0 where they add nothing."""
        if controls == NO_CONTROLS or self._weights.controls is None:
            return 0
        if controls not in self._sums:
            added = self._weights.controls[list(controls)].sum(0)
            self._sums[controls] = added, added.ctypes.data
        return self._sums[controls][1]


def is_supported(config: InfillConfig) -> bool:
    """Whether the compiled library can run this architecture."""
    has_shape = config.width % 16 == 0 and config.head_width % 2 == 0 and config.head_width <= 256
    return has_shape and config.attending == "prefix" and config.coordinates


class _Weights:
    """A model's weights, packed, and the structure that points at them."""

    def __init__(self, model: InfillTransformer) -> None:
        config = model.config
        self._arena = _Arena(sum(weight.numel() for weight in model.parameters()) * 8)
        layers = (_Layer * config.layers)()
        for layer, block in zip(layers, model.layers(), strict=True):
            layer.attention_norm = self._plain(block.attention_norm.weight)
            layer.feedforward_norm = self._plain(block.feedforward_norm.weight)
            layer.attention_into = self._packed(block.attention.into.weight)
            layer.attention_out = self._packed(block.attention.out.weight)
            layer.feedforward_into = self._packed(block.feedforward.into.weight)
            layer.feedforward_out = self._packed(block.feedforward.out.weight)
        self._layers = layers
        cosine, sine = rotation(torch.arange(config.max_length + MAX_CHUNK), config.head_width)
        embedding = model.embedding
        assert isinstance(embedding, MusicEmbedding)  # is_supported
        self.controls: npt.NDArray[np.float32] | None = None
        if embedding.asked is not None:
            self.controls = (embedding.control_scale * embedding.asked.weight).detach().float().cpu().numpy()
        self.model = _Model(
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            gated=gated_width(config.width),
            vocabulary=config.vocabulary,
            layer=ctypes.addressof(layers),
            tokens=self._plain(embedding.token.weight),
            bars=self._plain(embedding.bar.weight),
            steps=self._plain(embedding.step.weight),
            slots=self._plain(embedding.slot.weight),
            # What each token adds to the embedding of the next one.
            previous=self._plain(embedding.previous(embedding.token.weight)),
            norm=self._plain(model.norm.weight),
            cosine=self._plain(cosine),
            sine=self._plain(sine),
            head=self._packed(embedding.token.weight),
        )

    def _plain(self, weight: Tensor) -> int:
        return self._keep(np.ascontiguousarray(weight.detach().float().cpu().numpy()))

    def _packed(self, weight_OI: Tensor) -> int:
        return self._keep(packed(weight_OI))

    def _keep(self, array: npt.NDArray[np.generic]) -> int:
        return self._arena.keep(array)


class _Arena:
    """One block of memory for all weights, in pages of 2 MiB where the system has them.

    Address translation with pages of 4 KiB takes a fifth of a step at batch 1. Unwritten pages take no memory.
    """

    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, size + 2 * HUGE_PAGE)
        advice = getattr(mmap, "MADV_HUGEPAGE", None)  # only on Linux
        if advice is not None:
            with suppress(OSError):  # a kernel without it
                self._map.madvise(advice)
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)
        self._end = -self._bytes.ctypes.data % HUGE_PAGE

    def keep(self, array: npt.NDArray[np.generic]) -> int:
        """Copy an array in and return its address."""
        flat = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        place = self._bytes[self._end : self._end + len(flat)]
        place[:] = flat
        self._end += -(-len(flat) // CACHE_LINE) * CACHE_LINE
        return place.ctypes.data


def packed(weight_OI: Tensor) -> npt.NDArray[np.uint32]:
    """Return a matrix in bf16 as `matmul.h` reads it: [O / 64, I / 2, 64] words of two inputs, padded with zeros."""
    outputs, inputs = weight_OI.shape
    padded = torch.zeros(_padded(outputs), inputs, dtype=torch.bfloat16)
    padded[:outputs] = weight_OI.detach().cpu()
    panels = padded.view(-1, PANEL, inputs // 2, 2).transpose(1, 2).contiguous()
    return panels.view(torch.uint16).numpy().view(np.uint32).reshape(-1)


def _padded(count: int) -> int:
    return -(-count // PANEL) * PANEL


def _pointer(array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
    return _POINTER(array.ctypes.data)
