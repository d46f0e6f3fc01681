"""Convert a summed loss to bits per note."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossSum:
    """A sum of losses, and the tokens and notes that it was summed over. Sums over batches and workers add up."""

    nats: float = 0.0
    tokens: int = 0
    notes: int = 0

    def __add__(self, other: LossSum) -> LossSum:
        return LossSum(self.nats + other.nats, self.tokens + other.tokens, self.notes + other.notes)

    @property
    def loss(self) -> float:
        """LossSum per token; NaN when nothing was summed."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def bits_per_note(self) -> float:
        """Bits of all tokens (END included) per note; NaN without notes.

        Unlike the loss per token, it is comparable between vocabularies.
        """
        return self.nats / math.log(2) / self.notes if self.notes else math.nan
