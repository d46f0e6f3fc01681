"""The seam between stepping and a model with its cache: read a prefix, let a row go on from it, feed it tokens.

Rows are kept in places 0, 1, … without holes. Knows nothing of grammars, sampling or queues. `TorchRunner` is plain
PyTorch and runs on any device.
"""

# R rows, T tokens fed at once, K coordinates, P prefix tokens, V vocabulary

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from harmonixr_model.engine.row import Placed
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.nn.attention import Cache
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import COORDINATE_SIZES
from harmonixr_model.prompt.layout import InfillPrompt

# Forced tokens enter at most so many at a time: a longer chunk would keep the other rows waiting.
MAX_CHUNK = 32
PAD = VOCAB.id("PAD")
# What `read` returns and `join` takes: each runner's own matter.
Prefix: TypeAlias = Any


class Runner(Protocol):
    """A model and the keys and values of the rows being decoded with it."""

    @property
    def max_length(self) -> int:
        """The most tokens that a prompt and its fill may take together."""
        ...

    @property
    def precision(self) -> str:
        """The number format of weights and products: the same seed may give another fill in another one."""
        ...

    def read(self, prompt: InfillPrompt) -> Generator[None, None, Prefix]:
        """Read a prefix, giving way after each layer; the generator returns what rows may begin with."""
        ...

    def join(self, place: int, prefix: Prefix, prompt: InfillPrompt) -> None:
        """Let the row at `place`, the first free one, go on from a prefix."""
        ...

    def leave(self, place: int, last: int, *, length: int) -> None:
        """Forget the row at `place`; the one at `last`, the last place, which holds `length` tokens, moves there."""
        ...

    def feed(self, chunks: Sequence[Sequence[Placed]], positions: Sequence[int]) -> Tensor:
        """Append a chunk to each of the first rows, at its position; return [R, V], the logits after each chunk."""
        ...


class TorchRunner:
    """PyTorch on any device. Rows hold copies of their prefix, so that attention reads one slice of the cache."""

    def __init__(self, model: InfillTransformer, *, rows: int, length: int) -> None:
        self.model = model.eval()
        self.device = model.norm.weight.device
        # Rows of a step take as many places as the longest chunk among them.
        self._cache = model.new_cache(rows, length + MAX_CHUNK, model.norm.weight.dtype)

    @property
    def max_length(self) -> int:
        """The most tokens that a prompt and its fill may take together."""
        return self.model.config.max_length

    @property
    def precision(self) -> str:
        """The number format of weights and products: the same seed may give another fill in another one."""
        dtype = self.model.norm.weight.dtype
        return {torch.bfloat16: "bf16", torch.float32: "fp32"}.get(dtype, str(dtype).removeprefix("torch."))

    def read(self, prompt: InfillPrompt) -> Generator[None, None, Cache]:
        """Read a prefix, giving way after each layer."""
        cache = self.model.new_cache(1, len(prompt.prefix), self.model.norm.weight.dtype)
        tokens_1P = torch.from_numpy(prompt.prefix)[None].long().to(self.device)
        coordinates_1PK = torch.from_numpy(prompt.coordinates)[None].long().to(self.device)
        yield from self.model.prefill_by_layer(tokens_1P, coordinates_1PK, cache)
        return cache

    @torch.inference_mode()
    def join(self, place: int, prefix: Cache, prompt: InfillPrompt) -> None:
        """Copy a prefix into a row."""
        self._cache.copy_in(place, prefix, length=len(prompt.prefix))

    @torch.inference_mode()
    def leave(self, place: int, last: int, *, length: int) -> None:
        """Copy the last row's tokens to the place that is free."""
        if place != last:
            self._cache.copy_row(last, [place], length=length)

    @torch.inference_mode()
    def feed(self, chunks: Sequence[Sequence[Placed]], positions: Sequence[int]) -> Tensor:
        """Append the chunks, shorter ones padded; return [R, V].

        What padding leaves in the cache lies past its row's end and is overwritten before any token may look there.
        """
        longest = max(map(len, chunks))
        padding = [(PAD, *(0,) * len(COORDINATE_SIZES))]
        fed = [[*map(_flat, chunk), *padding * (longest - len(chunk))] for chunk in chunks]
        fed_RTK = torch.tensor(fed, device=self.device)
        positions_R = torch.tensor(positions, device=self.device)
        logits_RTV = self.model.extend(fed_RTK[..., 0], fed_RTK[..., 1:], positions_R, self._cache)
        last_R = torch.tensor([len(chunk) - 1 for chunk in chunks], device=self.device)
        return logits_RTV[torch.arange(len(chunks), device=self.device), last_R]


def _flat(placed: Placed) -> tuple[int, ...]:
    *place, asked = placed
    return (*place, *asked)
