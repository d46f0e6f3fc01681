"""Run the model on rows that are decoded together: prefill a prefix, continue it in a row, feed the row tokens.

`TorchRunner` uses PyTorch and runs on any device. Rows have the indices 0, 1, … in the KV cache, without gaps.
"""

# R rows, T tokens fed at once, K coordinates, P prefix tokens, V vocabulary

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from harmonixr_model.engine.row import PlacedToken
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.nn.attention import KVCache
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import COORDINATE_SIZES
from harmonixr_model.prompt.layout import InfillPrompt

# Forced tokens are fed in chunks of at most so many: a longer chunk delays the other rows.
MAX_CHUNK = 32
PAD = VOCAB.id("PAD")
# The keys and values of a prefix, as `prefill` returns them and `join` takes them. Each runner has its own type.
Prefix: TypeAlias = Any


class Runner(Protocol):
    """A model, and the KV cache of the rows."""

    @property
    def max_length(self) -> int:
        """The most tokens that a prompt and its fill may take together."""
        ...

    @property
    def precision(self) -> str:
        """The number format of weights and products."""
        ...

    def prefill(self, prompt: InfillPrompt) -> Generator[None, None, Prefix]:
        """Read a prefix, yielding after each layer; the generator returns what `join` takes."""
        ...

    def join(self, index: int, prefix: Prefix, prompt: InfillPrompt) -> None:
        """Add a row that continues a prefix; `index` is the first free one."""
        ...

    def leave(self, index: int, last: int, *, length: int) -> None:
        """Remove the row at `index`; the row at `last`, the highest index, moves there with its `length` tokens."""
        ...

    def feed(self, chunks: Sequence[Sequence[PlacedToken]], positions: Sequence[int]) -> Tensor:
        """Append a chunk to each row, at its position; return the logits after each chunk, [R, V]."""
        ...


class TorchRunner:
    """Run with PyTorch. Each row has a copy of its prefix, so that attention reads one slice of the cache."""

    def __init__(self, model: InfillTransformer, *, rows: int, length: int) -> None:
        self.model = model.eval()
        self.device = model.norm.weight.device
        # All rows of a step are padded to the longest chunk among them.
        self._cache = model.new_cache(rows, length + MAX_CHUNK, model.norm.weight.dtype)

    @property
    def max_length(self) -> int:
        """The most tokens that a prompt and its fill may take together."""
        return self.model.config.max_length

    @property
    def precision(self) -> str:
        """The number format of weights and products."""
        dtype = self.model.norm.weight.dtype
        return {torch.bfloat16: "bf16", torch.float32: "fp32"}.get(dtype, str(dtype).removeprefix("torch."))

    def prefill(self, prompt: InfillPrompt) -> Generator[None, None, KVCache]:
        """Read a prefix, yielding after each layer."""
        cache = self.model.new_cache(1, len(prompt.prefix), self.model.norm.weight.dtype)
        tokens_1P = torch.from_numpy(prompt.prefix)[None].long().to(self.device)
        coordinates_1PK = torch.from_numpy(prompt.coordinates)[None].long().to(self.device)
        yield from self.model.prefill(tokens_1P, coordinates_1PK, cache)
        return cache

    @torch.inference_mode()
    def join(self, index: int, prefix: KVCache, prompt: InfillPrompt) -> None:
        """Copy a prefix into a row of the cache."""
        self._cache.copy_in(index, prefix, length=len(prompt.prefix))

    @torch.inference_mode()
    def leave(self, index: int, last: int, *, length: int) -> None:
        """Copy the last row to the index that is free."""
        if index != last:
            self._cache.copy_row(last, [index], length=length)

    @torch.inference_mode()
    def feed(self, chunks: Sequence[Sequence[PlacedToken]], positions: Sequence[int]) -> Tensor:
        """Append the chunks, shorter ones padded; return [R, V].

        Padding is written past the end of its row and overwritten before any token attends to it.
        """
        longest = max(map(len, chunks))
        padding = [(PAD, *(0,) * len(COORDINATE_SIZES))]
        fed = [[*map(_flat, chunk), *padding * (longest - len(chunk))] for chunk in chunks]
        fed_RTK = torch.tensor(fed, device=self.device)
        positions_R = torch.tensor(positions, device=self.device)
        logits_RTV = self.model.extend(fed_RTK[..., 0], fed_RTK[..., 1:], positions_R, self._cache)
        last_R = torch.tensor([len(chunk) - 1 for chunk in chunks], device=self.device)
        return logits_RTV[torch.arange(len(chunks), device=self.device), last_R]


def _flat(placed: PlacedToken) -> tuple[int, ...]:
    *place, controls = placed
    return (*place, *controls)
