"""When a study may stop: an anytime-valid confidence interval of a mean, which holds at all looks simultaneously.

This is the hedged capital process of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", J. R. Stat. Soc. B 86 (2024), with predictable plug-in bets. Against each possible mean m two gamblers bet,
one that the values are above m and one that they are below. If m is the true mean, neither is expected to win, so by
Ville's inequality their capital ever reaches 1/α with probability at most α. The interval contains every m whose
gamblers have not reached it. Each value must have mean m given the earlier values. This holds for one value from each
of many random raters, and not for single votes, since raters differ and vote repeatedly.
"""

# T values in the order they came, M possible means

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harmonixr_platform.feedback.statistics.votes import Floats

_GRID = 1001
# A gambler stakes at most three quarters of the capital, so that no value loses all of it.
_MAX_STAKE = 0.75

Verdict = Literal["first", "second", "equal", "go_on"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The interval after each value; each is inside the previous one."""

    low_T: Floats
    high_T: Floats


def log_capital(values: Floats, mean_M: Floats, *, alpha: float = 0.05) -> Floats:
    """Return the log of the hedged capital against each mean after each value, [..., M, T], from values [..., T]."""
    values = np.asarray(values, dtype=float)
    count = np.arange(1, values.shape[-1] + 1)
    guess = (0.5 + np.cumsum(values, axis=-1)) / (count + 1)
    spread = (0.25 + np.cumsum((values - guess) ** 2, axis=-1)) / (count + 1)
    # A bet depends on earlier values only.
    before = np.concatenate([np.full((*values.shape[:-1], 1), 0.25), spread[..., :-1]], axis=-1)
    bet = np.sqrt(2 * math.log(2 / alpha) / (before * count * np.log(count + 1)))[..., None, :]
    mean = np.asarray(mean_M, dtype=float)[:, None]
    gain = values[..., None, :] - mean
    with np.errstate(divide="ignore"):
        up = np.log1p(np.minimum(bet, _MAX_STAKE / mean) * gain).cumsum(axis=-1)
        down = np.log1p(-np.minimum(bet, _MAX_STAKE / (1 - mean)) * gain).cumsum(axis=-1)
    capital: Floats = np.maximum(up, down) - math.log(2)
    return capital


def betting_sequence(values: Sequence[float], *, level: float = 0.95) -> Bounds:
    """Return the interval of the mean of values in [0, 1] after each of them."""
    alpha = 1 - level
    mean_M = np.linspace(0, 1, _GRID)
    capital_MT = log_capital(np.asarray(values, dtype=float), mean_M, alpha=alpha)
    inside_MT = np.logical_and.accumulate(capital_MT < math.log(1 / alpha), axis=1)
    # One grid step outward on both sides, since means between two grid points are not tested.
    low = np.maximum(inside_MT.argmax(axis=0) - 1, 0)
    high = np.minimum(_GRID - inside_MT[::-1].argmax(axis=0), _GRID - 1)
    return Bounds(mean_M[low], mean_M[high])


def rater_means(scores: Iterable[tuple[str, float]], *, each: int) -> list[float]:
    """Return the mean of the first `each` scores of every rater with so many, in the order of completion."""
    by_rater: dict[str, list[float]] = defaultdict(list)
    means = []
    for rater, score in scores:
        by_rater[rater].append(score)
        if len(by_rater[rater]) == each:
            means.append(sum(by_rater[rater]) / each)
    return means


def verdict(low: float, high: float, *, margin: float) -> Verdict:
    """Return what an interval of a win rate shows: a winner, no difference beyond the margin, or nothing yet."""
    if low > 0.5:
        return "first"
    if high < 0.5:
        return "second"
    if low >= 0.5 - margin and high <= 0.5 + margin:
        return "equal"
    return "go_on"
