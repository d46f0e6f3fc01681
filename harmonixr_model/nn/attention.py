"""Self-attention that sees a prefix whole and what follows causally, and the cache that lets it go on token by token.

Knows nothing of music, vocabularies or training.
"""

# B batch, R rows, T tokens, L tokens that are attended to, C width, H heads, D head width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotation: TypeAlias = tuple[Tensor, Tensor]


def rotation(positions: Tensor, head_width: int, *, base: float = 10_000.0) -> Rotation:
    """Return cos and sin of the rotary angles (Su et al. 2021, eq. 15) for positions of any shape [..., T].

    Both have shape [..., 1, T, D/2]: the 1 stands for the heads.
    """
    exponents = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width
    angles = positions.float().unsqueeze(-1) * base**-exponents
    return angles.cos().unsqueeze(-3), angles.sin().unsqueeze(-3)


def rotate(x_BHTD: Tensor, by: Rotation) -> Tensor:
    """Turn each pair (i, i + D/2) of a head by its angle; computed in fp32, returned in the dtype that came."""
    cos, sin = by
    left, right = x_BHTD.float().chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).type_as(x_BHTD)


def prefix_mask(prefix_length_B: Tensor, tokens: int, *, length_B: Tensor | None = None) -> Tensor:
    """Say who sees whom, bool [B, 1, T, T]: the prefix sees all of itself, later tokens what came before them.

    Keys past `length_B` are padding and unseen. A row of padding still sees earlier tokens, so no row is empty.
    """
    index = torch.arange(tokens, device=prefix_length_B.device)
    is_seen = (index[None, None, :] <= index[None, :, None]) | (index[None, None, :] < prefix_length_B[:, None, None])
    if length_B is not None:
        is_seen = is_seen & (index < length_B[:, None])[:, None, :]
    return is_seen.unsqueeze(1)


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer, each [rows, H, max_length, D]."""

    keys: Tensor
    values: Tensor

    def put_prefix(self, row: int, keys_1HTD: Tensor, values_1HTD: Tensor) -> None:
        """Write a whole prefix into the beginning of one row."""
        tokens = keys_1HTD.shape[2]
        self.keys[row, :, :tokens] = keys_1HTD[0]
        self.values[row, :, :tokens] = values_1HTD[0]

    def put(self, positions_RT: Tensor, keys_RHTD: Tensor, values_RHTD: Tensor) -> None:
        """Write T tokens into each of the first R rows, at that row's own positions."""
        rows = torch.arange(positions_RT.shape[0], device=positions_RT.device)[:, None]
        self.keys[rows, :, positions_RT] = keys_RHTD.transpose(1, 2).to(self.keys.dtype)
        self.values[rows, :, positions_RT] = values_RHTD.transpose(1, 2).to(self.values.dtype)


@dataclass(frozen=True, slots=True)
class Cache:
    """The keys and values of every layer. One tensor a layer: a single stacked one makes compilers copy it whole."""

    layers: tuple[LayerCache, ...]

    @property
    def rows(self) -> int:
        """How many sequences fit side by side."""
        return self.layers[0].keys.shape[0]

    @property
    def max_length(self) -> int:
        """How many tokens a row can hold."""
        return self.layers[0].keys.shape[2]

    def copy_row(self, source: int, targets: Sequence[int], *, length: int) -> None:
        """Copy the first `length` tokens of one row to others: one prefilled context, many candidates."""
        index = list(targets)
        for layer in self.layers:
            layer.keys[index, :, :length] = layer.keys[source, :, :length].clone()
            layer.values[index, :, :length] = layer.values[source, :, :length].clone()

    def copy_in(self, row: int, other: Cache, *, length: int) -> None:
        """Copy the first `length` tokens of another cache's only row into a row of this one."""
        for layer, source in zip(self.layers, other.layers, strict=True):
            layer.keys[row, :, :length] = source.keys[0, :, :length]
            layer.values[row, :, :length] = source.values[0, :, :length]


def new_cache(
    layers: int, rows: int, *, heads: int, max_length: int, head_width: int, dtype: torch.dtype, device: torch.device
) -> Cache:
    """Allocate an empty cache. It holds zeros, not garbage: an unread NaN would survive a masked softmax."""
    shape = (rows, heads, max_length, head_width)
    return Cache(
        tuple(
            LayerCache(torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device))
            for _ in range(layers)
        )
    )


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BTC: Tensor, by: Rotation, mask: Tensor | None) -> Tensor:
        """Attend within the sequences; `mask` is bool, broadcast to [B, H, T, T]; None: everyone sees everyone."""
        queries, keys, values = self._project(x_BTC, by)
        return self._attend(queries, keys, values, mask)

    def prefill(
        self, x_1TC: Tensor, by: Rotation, cache: LayerCache, *, row: int, mask: Tensor | None = None
    ) -> Tensor:
        """Attend within one prefix, in both directions where `mask` is None; keep keys and values in a cache's row."""
        queries, keys, values = self._project(x_1TC, by)
        cache.put_prefix(row, keys, values)
        return self._attend(queries, keys, values, mask)

    def remember(self, x_1TC: Tensor, by: Rotation, cache: LayerCache, *, row: int) -> None:
        """Keep the keys and values of a prefix in a cache's row, and attend to nothing."""
        _, keys, values = self._project(x_1TC, by)
        cache.put_prefix(row, keys, values)

    def extend(self, x_RTC: Tensor, by: Rotation, cache: LayerCache, *, positions_RT: Tensor, mask: Tensor) -> Tensor:
        """Append T tokens to the first R rows and attend over what those rows hold; mask is bool [R, 1, T, L]."""
        queries, keys, values = self._project(x_RTC, by)
        cache.put(positions_RT, keys, values)
        rows, held = mask.shape[0], mask.shape[-1]
        seen_keys, seen_values = cache.keys[:rows, :, :held], cache.values[:rows, :, :held]
        return self._attend(queries, seen_keys.to(queries.dtype), seen_values.to(queries.dtype), mask)

    def _project(self, x_BTC: Tensor, by: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, width = x_BTC.shape
        split = self.into(x_BTC).view(batch, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        return rotate(queries, by), rotate(keys, by), values

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        # No dropout on the attention weights: it would cost SDPA's fused kernels; the block drops its outputs instead.
        mixed_BHTD = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        projected: Tensor = self.out(mixed_BHTD.transpose(1, 2).flatten(2))
        return projected
