"""Agreement between raters (Krippendorff's α), and consistency of each rater with themselves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Unit = TypeVar("Unit")
RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Alpha:
    """Krippendorff's α with a 95 % bootstrap interval over units; `units` have at least two judgments."""

    value: float
    low: float
    high: float
    units: int
    answers: int


@dataclass(frozen=True, slots=True)
class Consistency:
    """Pairs judged twice by one rater.

    `same` have the same outcome twice; `by_chance` is the share expected from the outcomes' frequencies alone. Of the
    `decided` pairs (a fill was chosen twice) `reversed_` have different choices. `noise` is the error probability p of
    one judgment that explains them: 2 p (1 − p) = reversed / decided.
    """

    repeats: int
    same: int
    by_chance: float
    decided: int
    reversed_: int
    noise: float | None


def alpha_with_interval(
    judgments: Mapping[Unit, Sequence[str]], *, resamples: int = RESAMPLES, seed: int = 0
) -> Alpha | None:
    """Return α for nominal values, where any may be missing, with an interval; None if α is undefined.

    `judgments` has each unit's values, one for each rater. Krippendorff, "Computing Krippendorff's alpha-reliability"
    (2011): 1 − observed / expected disagreement in the coincidence matrix. It is undefined if no unit has two values or
    if all values are equal. The interval is a bootstrap over units.
    """
    units = [Counter(values) for values in judgments.values() if len(values) > 1]
    value = _alpha(units)
    if value is None:
        return None
    rng = np.random.default_rng(seed)
    sampled = (_alpha([units[i] for i in rng.integers(len(units), size=len(units))]) for _ in range(resamples))
    # α of a sample in which all values are equal is undefined; leave it out.
    low, high = np.quantile([alpha for alpha in sampled if alpha is not None] or [value], [0.025, 0.975])
    return Alpha(value, float(low), float(high), len(units), sum(unit.total() for unit in units))


def _alpha(units: Sequence[Counter[str]]) -> float | None:
    totals: Counter[str] = Counter()
    observed = 0.0
    for unit in units:
        observed += _disagreements(unit) / (unit.total() - 1)
        totals.update(unit)
    expected = _disagreements(totals)
    if expected == 0:
        return None
    return 1 - (totals.total() - 1) * observed / expected


def _disagreements(counts: Counter[str]) -> int:
    """Return how many ordered pairs of values differ."""
    return counts.total() ** 2 - sum(count**2 for count in counts.values())


def repeat_consistency(twice: Iterable[tuple[str, str]]) -> Consistency | None:
    """Return how often a rater's two outcomes of a pair are the same; None without repeats.

    Each item has one rater's two outcomes of one pair, in terms of its candidates, not sides.
    """
    both = list(twice)
    if not both:
        return None
    first, second = (Counter(outcomes[k] for outcomes in both) for k in range(2))
    by_chance = sum(first[value] * second[value] for value in first) / len(both) ** 2
    decided = [pair for pair in both if set(pair) <= {"first", "second"}]
    reversed_ = sum(a != b for a, b in decided)
    return Consistency(
        repeats=len(both),
        same=sum(a == b for a, b in both),
        by_chance=by_chance,
        decided=len(decided),
        reversed_=reversed_,
        # Reversals of more than a half, as by a coin, are noise of one half.
        noise=(1 - math.sqrt(max(0.0, 1 - 2 * reversed_ / len(decided)))) / 2 if decided else None,
    )
