"""Where a token stands in the music, added to what it says. Knows the shape of a coordinate, not its meaning.

A coordinate is (signed bar relative to the gap, step within the bar, track slot).
"""

# B batch, T tokens, C width, V vocabulary

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class MusicEmbedding(nn.Module):
    """Sum of four learned vectors a token: itself, its bar, its step, its track slot.

    Bars beyond ±`bars` share the vector of the farthest; likewise steps and slots share their last one, so that a
    very long bar or a very large band is read coarsely rather than refused.
    """

    def __init__(self, vocabulary: int, width: int, *, bars: int, steps: int, slots: int) -> None:
        super().__init__()
        self.bars = bars
        self.token = nn.Embedding(vocabulary, width)
        self.bar = nn.Embedding(2 * bars + 1, width)
        self.step = nn.Embedding(steps, width)
        self.slot = nn.Embedding(slots, width)

    def forward(self, tokens_BT: Tensor, coordinates_BT3: Tensor) -> Tensor:
        """Embed tokens with their coordinates: [B, T] and [B, T, 3] give [B, T, C]."""
        bar, step, slot = coordinates_BT3.long().unbind(-1)
        where = (
            self.bar(bar.clamp(-self.bars, self.bars) + self.bars)
            + self.step(step.clamp(0, self.step.num_embeddings - 1))
            + self.slot(slot.clamp(0, self.slot.num_embeddings - 1))
        )
        embedded: Tensor = where + self.token(tokens_BT)
        return embedded

    def logits(self, hidden_NC: Tensor) -> Tensor:
        """Project back onto the vocabulary by the same matrix (tied weights): [..., C] gives [..., V]."""
        return F.linear(hidden_NC, self.token.weight)
