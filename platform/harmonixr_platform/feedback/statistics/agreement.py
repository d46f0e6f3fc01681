"""How far raters agree with each other, and with themselves. Knows no models and no strengths."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Unit = TypeVar("Unit")
DRAWS = 500


@dataclass(frozen=True, slots=True)
class Alpha:
    """Krippendorff's α with a 95 % interval over units drawn anew; `units` had two answers at least."""

    value: float
    low: float
    high: float
    units: int
    answers: int


@dataclass(frozen=True, slots=True)
class Consistency:
    """Pairs judged twice by one rater.

    `same` gave the same outcome; `by_chance` is the share that the answers' frequencies alone would give. Of the
    `decided` (both answers chose a fill) `reversed_` chose the other one; `noise` is the chance that one answer is
    turned which explains them: 2 p (1 − p) = reversed / decided.
    """

    repeats: int
    same: int
    by_chance: float
    decided: int
    reversed_: int
    noise: float | None


def krippendorff_alpha(answers: Mapping[Unit, Sequence[str]]) -> float | None:
    """Return α for nominal values with any answers missing; None when it is undefined.

    `answers` holds each unit's values, one a rater. Krippendorff, "Computing Krippendorff's alpha-reliability" (2011):
    one less observed over expected disagreement, both of the coincidence matrix. Undefined without a unit that two
    raters answered, or when every answer is the same.
    """
    return _alpha([Counter(values) for values in answers.values() if len(values) > 1])


def alpha_with_interval(answers: Mapping[Unit, Sequence[str]], *, draws: int = DRAWS, seed: int = 0) -> Alpha | None:
    """Return α and its interval by drawing units with replacement; None where α is undefined."""
    units = [Counter(values) for values in answers.values() if len(values) > 1]
    value = _alpha(units)
    if value is None:
        return None
    rng = np.random.default_rng(seed)
    drawn = (_alpha([units[i] for i in rng.integers(len(units), size=len(units))]) for _ in range(draws))
    # A draw in which all answers are the same says nothing; it is left out.
    low, high = np.quantile([alpha for alpha in drawn if alpha is not None] or [value], [0.025, 0.975])
    return Alpha(value, float(low), float(high), len(units), sum(unit.total() for unit in units))


def _alpha(units: Sequence[Counter[str]]) -> float | None:
    totals: Counter[str] = Counter()
    observed = 0.0
    for unit in units:
        answers = unit.total()
        observed += _unlike(unit) / (answers - 1)
        totals.update(unit)
    expected = _unlike(totals)
    if expected == 0:
        return None
    return 1 - (totals.total() - 1) * observed / expected


def _unlike(counts: Counter[str]) -> int:
    """Return how many ordered pairs of answers differ."""
    return counts.total() ** 2 - sum(count**2 for count in counts.values())


def repeat_consistency(twice: Iterable[tuple[str, str]]) -> Consistency | None:
    """Return how often the second answer was the first; None without repeats.

    Each item is one rater's two outcomes of one pair, in the pair's terms whatever the sides were.
    """
    both = list(twice)
    if not both:
        return None
    first, second = (Counter(answer[k] for answer in both) for k in range(2))
    by_chance = sum(first[value] * second[value] for value in first) / len(both) ** 2
    decided = [pair for pair in both if set(pair) <= {"first", "second"}]
    turned = sum(a != b for a, b in decided)
    return Consistency(
        repeats=len(both),
        same=sum(a == b for a, b in both),
        by_chance=by_chance,
        decided=len(decided),
        reversed_=turned,
        # More reversals than a coin's half are noise of one half, no more.
        noise=(1 - math.sqrt(max(0.0, 1 - 2 * turned / len(decided)))) / 2 if decided else None,
    )
