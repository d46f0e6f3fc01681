"""Where a token stands in the music, added to what it says. Knows how many values a coordinate has, not their meaning.

Coordinates are (bar, step, slot, token before) and what is asked of the token, any number of values in one table. All
but the token before count from 0, which says that it is not known here, or that nothing is asked.
"""

# B batch, T tokens, K coordinates, A of them that ask, C width, V vocabulary

from __future__ import annotations

from math import sqrt

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
    """Sum of learned vectors: the token, its bar, step and track slot, the token before it, turned, and what is asked.

    With the token before, one layer of attention finds what followed the same token elsewhere: copying a passage needs
    no second layer (Olsson et al. 2022, "In-context Learning and Induction Heads", on smeared keys).
    """

    def __init__(self, vocabulary: int, width: int, *, bars: int, steps: int, slots: int, asked: int = 0) -> None:
        super().__init__(vocabulary, width)
        self.bar = nn.Embedding(bars, width)
        self.step = nn.Embedding(steps, width)
        self.slot = nn.Embedding(slots, width)
        self.previous = nn.Linear(width, width, bias=False)
        self.asked = nn.Embedding(asked, width, padding_idx=0) if asked else None
        # What is asked is one voice among many that move its vectors: by Adam's even steps they grew too slowly to be
        # heard within millions of tokens. Multiplied, as embeddings were in Vaswani et al. 2017, they grow faster.
        self.control_scale = sqrt(width)

    def forward(self, tokens_BT: Tensor, coordinates_BTK: Tensor) -> Tensor:
        """Embed tokens with their coordinates: [B, T] and [B, T, K] give [B, T, C]."""
        said: Tensor = self.token(tokens_BT) + self.before(coordinates_BTK)
        return said + self.place(coordinates_BTK)

    def before(self, coordinates_BTK: Tensor) -> Tensor:
        """Return what the token before each adds, [B, T, C]."""
        turned: Tensor = self.previous(self.token(coordinates_BTK[..., 3].int()))
        return turned

    def place(self, coordinates_BTK: Tensor) -> Tensor:
        """Return what bar, step, slot and the soft controls in force add, [B, T, C]."""
        bar, step, slot = coordinates_BTK[..., :3].int().unbind(-1)
        place: Tensor = self.bar(bar) + self.step(step) + self.slot(slot)
        if self.asked is None:
            return place
        asked: Tensor = self.asked(coordinates_BTK[..., 4:].int()).sum(-2)
        return place + self.control_scale * asked
