"""Self-attention, bidirectional within a prefix and causal after it, and the KV cache for decoding."""

# B batch, R rows, T tokens, L tokens attended to, C width, H heads, D head width

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

    Both have shape [..., 1, T, D/2]; the 1 broadcasts over the heads.
    """
    exponents = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width
    angles = positions.float().unsqueeze(-1) * base**-exponents
    return angles.cos().unsqueeze(-3), angles.sin().unsqueeze(-3)


def rotate(x_BHTD: Tensor, by: Rotation) -> Tensor:
    """Rotate each pair (i, i + D/2) of a head by its angle; computed in fp32, returned in the dtype of `x_BHTD`."""
    cos, sin = by
    left, right = x_BHTD.float().chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).type_as(x_BHTD)


def prefix_mask(prefix_length_B: Tensor, tokens: int, *, length_B: Tensor | None = None) -> Tensor:
    """Return the attention mask, bool [B, 1, T, T]: the prefix attends to all of itself, later tokens to earlier ones.

    Keys past `length_B` are padding and masked. A padding query still attends to earlier tokens, so no row is empty.
    """
    index = torch.arange(tokens, device=prefix_length_B.device)
    mask = (index[None, None, :] <= index[None, :, None]) | (index[None, None, :] < prefix_length_B[:, None, None])
    if length_B is not None:
        mask = mask & (index < length_B[:, None])[:, None, :]
    return mask.unsqueeze(1)


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer, each [rows, H, max_length, D]."""

    keys: Tensor
    values: Tensor

    def put_prefix(self, row: int, keys_1HTD: Tensor, values_1HTD: Tensor) -> None:
        """Write a whole prefix to the start of one row."""
        tokens = keys_1HTD.shape[2]
        self.keys[row, :, :tokens] = keys_1HTD[0]
        self.values[row, :, :tokens] = values_1HTD[0]

    def put(self, positions_RT: Tensor, keys_RHTD: Tensor, values_RHTD: Tensor) -> None:
        """Write T tokens to each of the first R rows, at that row's own positions."""
        rows = torch.arange(positions_RT.shape[0], device=positions_RT.device)[:, None]
        self.keys[rows, :, positions_RT] = keys_RHTD.transpose(1, 2).to(self.keys.dtype)
        self.values[rows, :, positions_RT] = values_RHTD.transpose(1, 2).to(self.values.dtype)


@dataclass(frozen=True, slots=True)
class KVCache:
    """The keys and values of every layer. One tensor a layer: compilers copy a single stacked tensor as a whole."""

    layers: tuple[LayerCache, ...]

    @property
    def rows(self) -> int:
        """How many sequences it holds."""
        return self.layers[0].keys.shape[0]

    @property
    def max_length(self) -> int:
        """The most tokens of a row."""
        return self.layers[0].keys.shape[2]

    def copy_row(self, source: int, targets: Sequence[int], *, length: int) -> None:
        """Copy the first `length` tokens of one row to other rows."""
        index = list(targets)
        for layer in self.layers:
            layer.keys[index, :, :length] = layer.keys[source, :, :length].clone()
            layer.values[index, :, :length] = layer.values[source, :, :length].clone()

    def copy_in(self, row: int, other: KVCache, *, length: int) -> None:
        """Copy the first `length` tokens of another cache's only row to a row of this one."""
        for layer, source in zip(self.layers, other.layers, strict=True):
            layer.keys[row, :, :length] = source.keys[0, :, :length]
            layer.values[row, :, :length] = source.values[0, :, :length]


def new_cache(
    layers: int, rows: int, *, heads: int, max_length: int, head_width: int, dtype: torch.dtype, device: torch.device
) -> KVCache:
    """Allocate a cache of zeros: a NaN in unused memory would pass through a masked softmax."""
    shape = (rows, heads, max_length, head_width)
    return KVCache(
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
        """Attend within the sequences; `mask` is bool, broadcast to [B, H, T, T]; None masks nothing."""
        queries, keys, values = self._project(x_BTC, by)
        return self._attend(queries, keys, values, mask)

    def prefill(
        self, x_1TC: Tensor, by: Rotation, cache: LayerCache, *, row: int, mask: Tensor | None = None
    ) -> Tensor:
        """Attend within one prefix, bidirectionally where `mask` is None, and cache its keys and values in a row."""
        queries, keys, values = self._project(x_1TC, by)
        cache.put_prefix(row, keys, values)
        return self._attend(queries, keys, values, mask)

    def write_cache(self, x_1TC: Tensor, by: Rotation, cache: LayerCache, *, row: int) -> None:
        """Write the keys and values of a prefix to a cache row, without attention."""
        _, keys, values = self._project(x_1TC, by)
        cache.put_prefix(row, keys, values)

    def extend(self, x_RTC: Tensor, by: Rotation, cache: LayerCache, *, positions_RT: Tensor, mask: Tensor) -> Tensor:
        """Append T tokens to the first R rows and attend over those rows; `mask` is bool [R, 1, T, L]."""
        queries, keys, values = self._project(x_RTC, by)
        cache.put(positions_RT, keys, values)
        rows, length = mask.shape[0], mask.shape[-1]
        keys, values = cache.keys[:rows, :, :length], cache.values[:rows, :, :length]
        return self._attend(queries, keys.to(queries.dtype), values.to(queries.dtype), mask)

    def _project(self, x_BTC: Tensor, by: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, width = x_BTC.shape
        split = self.into(x_BTC).view(batch, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        return rotate(queries, by), rotate(keys, by), values

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        # Dropout on attention weights would disable SDPA's fused kernels; the block drops the outputs instead.
        mixed_BHTD = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        projected: Tensor = self.out(mixed_BHTD.transpose(1, 2).flatten(2))
        return projected
