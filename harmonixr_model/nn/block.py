"""A pre-norm transformer block: RMSNorm, attention, RMSNorm, SwiGLU."""

# B batch, R rows, T tokens, C width

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from harmonixr_model.nn.attention import Attention, LayerCache, Rotation


def gated_width(width: int) -> int:
    """Return SwiGLU's inner width: 8/3 of the model's, as many weights as a plain 4x layer, in multiples of 64."""
    return -(-8 * width // (3 * 64)) * 64


class SwiGLU(nn.Module):
    """The gated feed-forward layer of Shazeer (2020), both inner projections in one matrix."""

    def __init__(self, width: int, inner: int = 0) -> None:
        super().__init__()
        inner = inner or gated_width(width)
        self.into = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Map each token by itself."""
        gate, value = self.into(x_BTC).chunk(2, dim=-1)
        mapped: Tensor = self.out(F.silu(gate) * value)
        return mapped


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream after dropout."""

    def __init__(self, width: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.feedforward_norm = nn.RMSNorm(width, eps=1e-6)
        self.feedforward = SwiGLU(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTC: Tensor, by: Rotation, mask: Tensor | None) -> Tensor:
        """Run whole sequences; see Attention.forward."""
        return self._finish(x_BTC, self.attention(self.attention_norm(x_BTC), by, mask))

    def prefill(
        self, x_1TC: Tensor, by: Rotation, cache: LayerCache, *, row: int, mask: Tensor | None = None
    ) -> Tensor:
        """Run one prefix and cache it; see Attention.prefill."""
        return self._finish(x_1TC, self.attention.prefill(self.attention_norm(x_1TC), by, cache, row=row, mask=mask))

    def write_cache(self, x_1TC: Tensor, by: Rotation, cache: LayerCache, *, row: int) -> None:
        """Cache one prefix whose output is not needed; see Attention.write_cache."""
        self.attention.write_cache(self.attention_norm(x_1TC), by, cache, row=row)

    def extend(self, x_RTC: Tensor, by: Rotation, cache: LayerCache, *, positions_RT: Tensor, mask: Tensor) -> Tensor:
        """Run tokens appended to cached rows; see Attention.extend."""
        normed = self.attention_norm(x_RTC)
        return self._finish(x_RTC, self.attention.extend(normed, by, cache, positions_RT=positions_RT, mask=mask))

    def _finish(self, x_BTC: Tensor, attended_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self.dropout(attended_BTC)
        mixed: Tensor = x_BTC + self.dropout(self.feedforward(self.feedforward_norm(x_BTC)))
        return mixed
