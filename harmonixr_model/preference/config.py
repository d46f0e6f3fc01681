"""The reward model's architecture. Travels inside its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from harmonixr_model.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """Heads over a trunk: `heads` small networks, each fitted to its own bootstrap of the pieces.

    `trunk_width` is the width D of the hidden states that the trunk hands over; `tie_prior` starts Davidson's ν.
    """

    trunk_width: int
    heads: int = 8
    head_width: int = 64
    dropout: float = 0.1
    tie_prior: float = 0.5

    def __post_init__(self) -> None:
        if min(self.trunk_width, self.heads, self.head_width) < 1 or not 0 <= self.dropout < 1 or self.tie_prior <= 0:
            raise CheckpointError(
                f"{self} is no reward model: widths and heads are at least 1, dropout in [0, 1), ν > 0"
            )
