"""The information that one more judgment of a pair gives, from the posterior of the arms' difference.

Arms have strengths with a normal prior. Arm i beats arm j with probability σ(θi − θj); a tie counts as half a win for
each. The posterior is approximated as normal at its mode (Laplace). The information of a judgment is the decrease of
the standard deviation of the arms' difference, as in Chatbot Arena's sampling of pairs (Chiang et al., 2024, eq. 9).
Two fills of one arm differ at random, so only judgments of that very pair give information about it.
"""

# A arms

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# A strength difference of one, a win rate of 73 %, is typical between arms and between fills.
_PRIOR_VARIANCE = 1.0
_STEPS = 12


class Posterior:
    """The arms' strengths given the judgments; `wins[i, j]` counts how often i beat j, with ties as halves."""

    def __init__(self, arms: Sequence[str], wins: Mapping[tuple[str, str], float]) -> None:
        self._index = {arm: i for i, arm in enumerate(arms)}
        wins_AA = np.zeros((len(arms), len(arms)))
        for (winner, loser), count in wins.items():
            if winner != loser:
                wins_AA[self._index[winner], self._index[loser]] += count
        self._strength_A, self._covariance_AA = _laplace(wins_AA)

    def information(self, first: str, second: str, *, judgments: int = 0) -> float:
        """Return the information of one more judgment of a pair; `judgments` is how many this very pair has."""
        if first == second:
            # The Fisher information of a judgment between equal fills is σ(0) (1 − σ(0)) = 1/4.
            return _decrease(1 / (1 / (2 * _PRIOR_VARIANCE) + judgments / 4), 0.25)
        chance = _sigmoid(self._strength_A[self._index[first]] - self._strength_A[self._index[second]])
        return _decrease(self._variance(first, second), float(chance * (1 - chance)))

    def deviation(self, first: str, second: str) -> float:
        """Return the standard deviation of two arms' difference."""
        return math.sqrt(self._variance(first, second))

    def _variance(self, first: str, second: str) -> float:
        i, j = self._index[first], self._index[second]
        return float(self._covariance_AA[i, i] + self._covariance_AA[j, j] - 2 * self._covariance_AA[i, j])


def _laplace(wins_AA: Floats) -> tuple[Floats, Floats]:
    """Return mode and covariance of the strengths. The posterior is log-concave: damped Newton finds its mode."""
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
    information_AA = games_AA * chance_AA * (1 - chance_AA)
    precision: Floats = np.diag(information_AA.sum(axis=1) + 1 / _PRIOR_VARIANCE) - information_AA
    return precision


def _decrease(variance: float, information: float) -> float:
    """Return how much an observation with this information decreases the standard deviation."""
    return math.sqrt(variance) - math.sqrt(variance / (1 + variance * information))


def _sigmoid(value: Floats) -> Floats:
    chance: Floats = 1 / (1 + np.exp(-value))
    return chance
