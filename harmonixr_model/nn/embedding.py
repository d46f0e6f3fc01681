"""Embed tokens and their coordinates in the music.

The coordinates are (bar, step, slot, previous token) and any number of control values, all in one table. A bar, step,
slot or control value of 0 means that there is none.
"""

# B batch, T tokens, K coordinates, C width, V vocabulary

from __future__ import annotations

from math import sqrt

import torch.nn.functional as F
from torch import Tensor, nn


class PlainEmbedding(nn.Module):
    """One learned vector a token, without coordinates: the baseline of MusicEmbedding."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)

    def forward(self, tokens_BT: Tensor, coordinates_BTK: Tensor) -> Tensor:
        """Embed tokens [B, T] as [B, T, C]; the coordinates are ignored."""
        embedded: Tensor = self.token(tokens_BT)
        return embedded

    def logits(self, hidden_NC: Tensor) -> Tensor:
        """Project onto the vocabulary with the same matrix (tied weights): [..., C] gives [..., V]."""
        return F.linear(hidden_NC, self.token.weight)


class MusicEmbedding(PlainEmbedding):
    """Sum of learned vectors: the token, its bar, step and slot, the previous token, projected, and its controls.

    With the previous token, one attention layer finds what followed the same token elsewhere: copying a passage needs
    no second layer (Olsson et al. 2022, "In-context Learning and Induction Heads", on smeared keys).
    """

    def __init__(
        self, vocabulary: int, width: int, *, bars: int, steps: int, slots: int, control_values: int = 0
    ) -> None:
        super().__init__(vocabulary, width)
        self.bar = nn.Embedding(bars, width)
        self.step = nn.Embedding(steps, width)
        self.slot = nn.Embedding(slots, width)
        self.previous = nn.Linear(width, width, bias=False)
        # The table of control values; checkpoints name it `asked`.
        self.asked = nn.Embedding(control_values, width, padding_idx=0) if control_values else None
        # Adam's steps have the same size for all vectors, and with them the control vectors grew too slowly to have an
        # effect within millions of tokens. The factor of Vaswani et al. 2017 lets them grow faster.
        self.control_scale = sqrt(width)

    def forward(self, tokens_BT: Tensor, coordinates_BTK: Tensor) -> Tensor:
        """Embed tokens with their coordinates: [B, T] and [B, T, K] give [B, T, C]."""
        embedded: Tensor = self.token(tokens_BT) + self.embed_previous(coordinates_BTK)
        return embedded + self.embed_place(coordinates_BTK)

    def embed_previous(self, coordinates_BTK: Tensor) -> Tensor:
        """Return the vectors of the previous tokens, [B, T, C]."""
        projected: Tensor = self.previous(self.token(coordinates_BTK[..., 3].int()))
        return projected

    def embed_place(self, coordinates_BTK: Tensor) -> Tensor:
        """Return the vectors of bar, step, slot and controls, [B, T, C]."""
        bar, step, slot = coordinates_BTK[..., :3].int().unbind(-1)
        place: Tensor = self.bar(bar) + self.step(step) + self.slot(slot)
        if self.asked is None:
            return place
        controls: Tensor = self.asked(coordinates_BTK[..., 4:].int()).sum(-2)
        return place + self.control_scale * controls
