"""What a summed loss means in music: bits per note. Knows nothing of models."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossSum:
    """A sum of losses and what it was summed over. Adds up over batches and workers."""

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
        """Bits for all that was said (END included) per note said; NaN without notes.

        Comparable between vocabularies, as a loss per token is not.
        """
        return self.nats / math.log(2) / self.notes if self.notes else math.nan
