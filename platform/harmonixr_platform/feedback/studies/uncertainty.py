"""How little is known of one pair's outcome: the posterior of the arms' difference. Knows no rater, store or clock.

Arms have strengths with a normal prior; a comparison of i and j is won with chance σ(θi − θj), a tie counts half a win
each. The posterior is taken as normal at its mode (Laplace). What one more answer is worth is how much it would shrink
the standard deviation of its own difference, as Chatbot Arena samples its pairs (Chiang et al., 2024, eq. 9); two fills
of one arm differ by their own luck alone, of which only answers about that very pair tell.
"""

# A arms

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Strengths of one unit, a win rate of 73 %, are an ordinary difference between arms and between fills.
_PRIOR_VARIANCE = 1.0
_STEPS = 12


class Posterior:
    """Strengths of the arms after the answers so far; `wins[i, j]` is how often i beat j, ties as halves."""

    def __init__(self, arms: Sequence[str], wins: Mapping[tuple[str, str], float]) -> None:
        self._index = {arm: i for i, arm in enumerate(arms)}
        wins_AA = np.zeros((len(arms), len(arms)))
        for (winner, loser), count in wins.items():
            if winner != loser:
                wins_AA[self._index[winner], self._index[loser]] += count
        self._strength_A, self._covariance_AA = _laplace(wins_AA)

    def worth(self, first: str, second: str, *, answers: int = 0) -> float:
        """Return what one more answer between two arms is worth; `answers` were given on this very pair."""
        if first == second:
            # σ(0) (1 − σ(0)) = 1/4 is what an answer between equals tells.
            return _shrinkage(1 / (1 / (2 * _PRIOR_VARIANCE) + answers / 4), 0.25)
        i, j = self._index[first], self._index[second]
        variance = self._covariance_AA[i, i] + self._covariance_AA[j, j] - 2 * self._covariance_AA[i, j]
        chance = _sigmoid(self._strength_A[i] - self._strength_A[j])
        return _shrinkage(float(variance), float(chance * (1 - chance)))

    def deviation(self, first: str, second: str) -> float:
        """Return the standard deviation of two arms' difference."""
        i, j = self._index[first], self._index[second]
        return math.sqrt(self._covariance_AA[i, i] + self._covariance_AA[j, j] - 2 * self._covariance_AA[i, j])


def _laplace(wins_AA: Floats) -> tuple[Floats, Floats]:
    """Return the mode and covariance of the strengths. The posterior is log-concave: damped Newton finds its mode."""
    strength_A: Floats = np.zeros(len(wins_AA))
    games_AA = wins_AA + wins_AA.T
    for _ in range(_STEPS):
        chance_AA = _sigmoid(strength_A[:, None] - strength_A[None, :])
        gradient_A = (wins_AA - games_AA * chance_AA).sum(axis=1) - strength_A / _PRIOR_VARIANCE
        step_A = np.linalg.solve(_precision(games_AA, chance_AA), gradient_A)
        strength_A = strength_A + np.clip(step_A, -1.0, 1.0)
    chance_AA = _sigmoid(strength_A[:, None] - strength_A[None, :])
    return strength_A, np.asarray(np.linalg.inv(_precision(games_AA, chance_AA)), dtype=np.float64)


def _precision(games_AA: Floats, chance_AA: Floats) -> Floats:
    told_AA = games_AA * chance_AA * (1 - chance_AA)
    precision: Floats = np.diag(told_AA.sum(axis=1) + 1 / _PRIOR_VARIANCE) - told_AA
    return precision


def _shrinkage(variance: float, told: float) -> float:
    return math.sqrt(variance) - math.sqrt(variance / (1 + variance * told))


def _sigmoid(value: Floats) -> Floats:
    chance: Floats = 1 / (1 + np.exp(-value))
    return chance
