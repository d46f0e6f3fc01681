"""Where a token stands in the music, added to what it says. Knows how many values a coordinate has, not their meaning.

Coordinates are (bar, step, slot, token before); the first three count from 0, which says that it is not known here.
"""

# B batch, T tokens, K coordinates, C width, V vocabulary

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PlainEmbedding(nn.Module):
    """One learned vector a token, wherever it stands: what MusicEmbedding is measured against."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)

    def forward(self, tokens_BT: Tensor, coordinates_BTK: Tensor) -> Tensor:
        """Embed tokens [B, T] as [B, T, C]; coordinates are not looked at."""
        said: Tensor = self.token(tokens_BT)
        return said

    def logits(self, hidden_NC: Tensor) -> Tensor:
        """Project back onto the vocabulary by the same matrix (tied weights): [..., C] gives [..., V]."""
        return F.linear(hidden_NC, self.token.weight)


class MusicEmbedding(PlainEmbedding):
    """Sum of five learned vectors a token: itself, its bar, its step, its track slot, and the token before it, turned.

    With the token before, one layer of attention finds what followed the same token elsewhere: copying a passage needs
    no second layer (Olsson et al. 2022, "In-context Learning and Induction Heads", on smeared keys).
    """

    def __init__(self, vocabulary: int, width: int, *, bars: int, steps: int, slots: int) -> None:
        super().__init__(vocabulary, width)
        self.bar = nn.Embedding(bars, width)
        self.step = nn.Embedding(steps, width)
        self.slot = nn.Embedding(slots, width)
        self.previous = nn.Linear(width, width, bias=False)

    def forward(self, tokens_BT: Tensor, coordinates_BTK: Tensor) -> Tensor:
        """Embed tokens with their coordinates: [B, T] and [B, T, K] give [B, T, C]."""
        bar, step, slot, previous = coordinates_BTK.int().unbind(-1)
        place: Tensor = self.bar(bar) + self.step(step) + self.slot(slot)
        said: Tensor = self.token(tokens_BT) + self.previous(self.token(previous))
        return said + place
