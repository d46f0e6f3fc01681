"""Votes, and the design arrays for the fits.

Equal votes of one rater are one row with a count, which makes a thousand refits fast.
"""

# N rows, M models, Q = M − 1 directions that sum to zero, P = Q + covariates

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIRST, SECOND, TIE = 0, 1, 2
SIDE, NOTES = "side", "notes"
# The minimum share of a covariate that the models' contrasts do not explain; below it, it is not identified.
_MIN_UNEXPLAINED = 1e-6


@dataclass(frozen=True, slots=True)
class Vote:
    """One judgment between two models.

    `outcome` is 0 (first won), 1 (second won) or 2 (tie). `side` is +1 if the first was on side a, −1 on side b, 0 if
    unknown. `notes` is log2 of the ratio of the first's notes to the second's, with one added to each.
    """

    first: str
    second: str
    outcome: int
    rater: str
    side: int = 0
    notes: float = 0.0


@dataclass(frozen=True, slots=True)
class Design:
    """Votes as arrays. A row gives the log odds of first over second as a linear function of the parameters."""

    models: tuple[str, ...]
    covariates: tuple[str, ...]
    unidentified: tuple[str, ...]
    raters: tuple[str, ...]
    rows_NP: Floats
    outcome_N: Ints
    rater_N: Ints
    count_N: Floats
    basis_MQ: Floats

    @property
    def strengths_MP(self) -> Floats:
        """The matrix from parameters to strengths, which sum to zero."""
        return np.pad(self.basis_MQ, ((0, 0), (0, len(self.covariates))))

    @property
    def effects_CP(self) -> Floats:
        """The matrix from parameters to the covariates' effects."""
        return np.eye(self.rows_NP.shape[1])[self.basis_MQ.shape[1] :]

    def difference(self, first: str, second: str) -> Floats:
        """Return the matrix from parameters to the log odds of one model over another, [1, P]."""
        strengths_MP = self.strengths_MP
        return strengths_MP[[self.models.index(first)]] - strengths_MP[[self.models.index(second)]]


def models_of(votes: Sequence[Vote]) -> tuple[str, ...]:
    """Return the models of the votes, sorted."""
    return tuple(sorted({model for vote in votes for model in (vote.first, vote.second)}))


def design(votes: Sequence[Vote], *, covariates: Sequence[str] = (SIDE,)) -> Design:
    """Return the design of at least one vote.

    A covariate that is constant or collinear with the models' strengths is left out and named in `unidentified`.
    """
    models = models_of(votes)
    index = {model: i for i, model in enumerate(models)}
    raters = tuple(sorted({vote.rater for vote in votes}))
    rater_index = {rater: i for i, rater in enumerate(raters)}
    pairs = np.array([(index[vote.first], index[vote.second]) for vote in votes])
    basis_MQ = _sum_zero_basis(len(models))
    contrasts = basis_MQ[pairs[:, 0]] - basis_MQ[pairs[:, 1]]
    columns, identified, unidentified = contrasts, [], []
    for name in covariates:
        column = np.array([[getattr(vote, name)] for vote in votes], dtype=float)
        if _unexplained(column, columns) < _MIN_UNEXPLAINED:
            unidentified.append(name)
            continue
        columns = np.hstack([columns, column])
        identified.append(name)
    keys = np.column_stack([[vote.outcome for vote in votes], [rater_index[vote.rater] for vote in votes], columns])
    grouped, counts = np.unique(keys, axis=0, return_counts=True)
    return Design(
        models=models,
        covariates=tuple(identified),
        unidentified=tuple(unidentified),
        raters=raters,
        rows_NP=np.ascontiguousarray(grouped[:, 2:]),
        outcome_N=grouped[:, 0].astype(np.int64),
        rater_N=grouped[:, 1].astype(np.int64),
        count_N=counts.astype(float),
        basis_MQ=basis_MQ,
    )


def win_matrix(votes: Sequence[Vote]) -> dict[str, dict[str, float]]:
    """Return how often each row's model beat each column's; a tie is half a win for both."""
    models = models_of(votes)
    wins = {row: dict.fromkeys(models, 0.0) for row in models}
    for vote in votes:
        wins[vote.first][vote.second] += (1.0, 0.0, 0.5)[vote.outcome]
        wins[vote.second][vote.first] += (0.0, 1.0, 0.5)[vote.outcome]
    return wins


def _sum_zero_basis(count: int) -> Floats:
    """Return orthonormal columns that span the vectors of `count` numbers with sum zero (Helmert's)."""
    basis = np.zeros((count, count - 1))
    for k in range(1, count):
        basis[:k, k - 1], basis[k, k - 1] = 1 / k, -1
        basis[:, k - 1] /= np.linalg.norm(basis[:, k - 1])
    return basis


def _unexplained(column: Floats, others: Floats) -> float:
    """Return the share of a column's norm that the other columns do not explain."""
    size = float(np.linalg.norm(column))
    if size == 0:
        return 0.0
    explained = others @ np.linalg.lstsq(others, column, rcond=None)[0]
    return float(np.linalg.norm(column - explained)) / size
