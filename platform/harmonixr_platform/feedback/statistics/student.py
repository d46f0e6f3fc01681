"""Student's t, normal and binomial tails, to the digits that intervals need. Knows nothing of votes."""

from __future__ import annotations

import math
from functools import lru_cache


def t_quantile(probability: float, degrees: float) -> float:
    """Return the t below which so many degrees of freedom put `probability`.

    Between whole numbers of degrees the line between their quantiles, which lies a little too far out.
    """
    if degrees < 1 or not 0 < probability < 1:
        raise ValueError(f"no quantile {probability} of t with {degrees} degrees of freedom")
    below = math.floor(degrees)
    part = degrees - below
    above = _whole_quantile(probability, below + 1) if part else 0.0
    return (1 - part) * _whole_quantile(probability, below) + part * above


def binomial_two_sided(count: int, total: int, chance: float = 0.5) -> float:
    """Return the exact p-value of `count` of `total`: all outcomes that are no likelier than the one seen."""
    seen = _binomial(count, total, chance)
    return min(1.0, sum(p for k in range(total + 1) if (p := _binomial(k, total, chance)) <= seen * (1 + 1e-9)))


def binomial_at_most(count: int, total: int, chance: float) -> float:
    """Return the chance of `count` or fewer of `total`."""
    return min(1.0, sum(_binomial(k, total, chance) for k in range(count + 1)))


def _binomial(count: int, total: int, chance: float) -> float:
    if chance in (0.0, 1.0):
        return float(count == total * chance)
    log = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
    return math.exp(log + count * math.log(chance) + (total - count) * math.log1p(-chance))


@lru_cache(maxsize=1024)
def _whole_quantile(probability: float, degrees: int) -> float:
    if probability < 0.5:
        return -_whole_quantile(1 - probability, degrees)
    low, high = 0.0, 1.0
    while _t_below(high, degrees) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def _t_below(t: float, degrees: int) -> float:
    """Return P(T <= t) for t >= 0: the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for k in range(3 if odd else 2, degrees, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if degrees == 1:
        total = 0.0
    between = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return 0.5 + between / 2
