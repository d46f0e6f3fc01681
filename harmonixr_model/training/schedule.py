"""Learning rate and context length as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence


def learning_rate(step: int, *, steps: int, peak: float, warmup: int, floor: float) -> float:
    """Rise linearly over `warmup` steps, then fall as a half cosine to `floor` × peak at the last step.

    Steps count from 0.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    fallen = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * fallen)))


def context_length(step: int, *, steps: int, stages: Sequence[int]) -> int:
    """Return the context length of a step: the run has one equal part for each stage."""
    return stages[min(len(stages) - 1, step * len(stages) // steps)]
