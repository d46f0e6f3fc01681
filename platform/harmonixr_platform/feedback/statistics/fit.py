"""Fit strengths, covariates and the tie parameter by Newton's method, for many weightings of the votes at once.

Each step uses the expected information and is halved until the likelihood does not decrease, so it converges from any
start to the unique maximum. A fit has converged if the last Newton step changed no parameter by more than 1e-7.
"""

# D weightings, N rows, P parameters of the odds, R = P + 1 with the tie parameter last, G raters

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harmonixr_platform.feedback.statistics.ties import Davidson, Terms, TieModel
from harmonixr_platform.feedback.statistics.votes import TIE, Design, Floats

# A ridge penalty with the information of a fifth of a vote; it keeps strengths finite if one model always won.
RIDGE = 0.05
_STEPS, _HALVINGS = 200, 30
_TOLERANCE = 1e-7
# The maximum size of one array, so that a thousand refits of many votes fit into memory.
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class Fit:
    """The maximum for each weighting: parameters of the odds, tie parameter, log-likelihood without the penalty."""

    value_DP: Floats
    tie_D: Floats
    log_likelihood_D: Floats
    converged_D: np.typing.NDArray[np.bool_]

    @property
    def converged(self) -> bool:
        """Whether the fit of every weighting converged."""
        return bool(self.converged_D.all())


def fit(design: Design, *, weight_DN: Floats | None = None, model: TieModel | None = None, ridge: float = RIDGE) -> Fit:
    """Return the maxima under weightings of the design's rows; by default a row's weight is its count."""
    weights = design.count_N[None] if weight_DN is None else weight_DN
    size = max(1, _CHUNK // max(1, weights.shape[1]))
    parts = [
        _NewtonFit(design, weights[i : i + size], model or Davidson(), ridge).run()
        for i in range(0, len(weights), size)
    ]
    return Fit(
        np.concatenate([part.value_DP for part in parts]),
        np.concatenate([part.tie_D for part in parts]),
        np.concatenate([part.log_likelihood_D for part in parts]),
        np.concatenate([part.converged_D for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class Curvature:
    """Score and information of each rater at a fit's maximum, and the penalty's information."""

    score_GR: Floats
    information_GRR: Floats
    penalty_RR: Floats


def curvature(design: Design, found: Fit, *, model: TieModel | None = None, ridge: float = RIDGE) -> Curvature:
    """Return score and information for each rater at the first weighting's maximum."""
    newton = _NewtonFit(design, design.count_N[None], model or Davidson(), ridge)
    at = np.concatenate([found.value_DP[0], found.tie_D[:1]])[None]
    terms = newton.terms(at)
    rows_NR = np.hstack([design.rows_NP, np.zeros((len(design.rows_NP), 1))])
    free = float(newton.has_ties_D[0])
    tie_R = np.eye(rows_NR.shape[1])[-1] * free
    score_NR = terms.score_eta[0][:, None] * rows_NR + terms.score_tie[0][:, None] * tie_R
    outer = rows_NR[:, :, None] * rows_NR[:, None, :]
    cross = rows_NR[:, :, None] * tie_R + tie_R[:, None] * rows_NR[:, None, :]
    info_NRR = (
        terms.info_eta[0][:, None, None] * outer
        + terms.info_cross[0][:, None, None] * cross
        + terms.info_tie[0][:, None, None] * np.outer(tie_R, tie_R)
    )
    score_GR = np.zeros((len(design.raters), rows_NR.shape[1]))
    information_GRR = np.zeros((len(design.raters), *info_NRR.shape[1:]))
    np.add.at(score_GR, design.rater_N, design.count_N[:, None] * score_NR)
    np.add.at(information_GRR, design.rater_N, design.count_N[:, None, None] * info_NRR)
    penalty = np.full(rows_NR.shape[1], ridge)
    # A tie parameter that is not fitted has no information; 1 keeps the matrix regular.
    penalty[-1] = ridge if free else 1.0
    return Curvature(score_GR, information_GRR, np.diag(penalty))


class _NewtonFit:
    """One run of Newton's method over several weightings."""

    def __init__(self, design: Design, weight_DN: Floats, model: TieModel, ridge: float) -> None:
        self._design, self._weight_DN, self._model, self._ridge = design, weight_DN, model, ridge
        rows = design.rows_NP
        self._outer = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
        # Without ties the tie parameter has no finite maximum; it stays at its value for no ties.
        self.has_ties_D = weight_DN[:, design.outcome_N == TIE].sum(axis=1) > 0

    def run(self) -> Fit:
        weightings, size = len(self._weight_DN), self._design.rows_NP.shape[1]
        at = np.zeros((weightings, size + 1))
        at[:, -1] = np.where(self.has_ties_D, self._model.start, self._model.no_ties)
        terms = self.terms(at)
        value = self._objective(at, terms)
        converged = np.zeros(weightings, dtype=bool)
        for _ in range(_STEPS):
            step = self._step(at, terms)
            converged = np.abs(step).max(axis=1) < _TOLERANCE
            if converged.all():
                break
            at, terms, value = self._forward(at, step, value)
        return Fit(at[:, :-1], at[:, -1], (self._weight_DN * terms.log_likelihood).sum(axis=1), converged)

    def terms(self, at: Floats) -> Terms:
        return self._model.terms(at[:, :-1] @ self._design.rows_NP.T, at[:, -1:], self._design.outcome_N)

    def _objective(self, at: Floats, terms: Terms) -> Floats:
        # A row of weight zero may have likelihood zero, such as a tie in a resample without ties; leave it out.
        likelihood = np.where(self._weight_DN > 0, self._weight_DN * terms.log_likelihood, 0.0).sum(axis=1)
        result: Floats = likelihood - self._ridge / 2 * (self._penalized(at) ** 2).sum(axis=1)
        return result

    def _penalized(self, at: Floats) -> Floats:
        return np.column_stack([at[:, :-1], np.where(self.has_ties_D, at[:, -1], 0.0)])

    def _step(self, at: Floats, terms: Terms) -> Floats:
        weight, rows = self._weight_DN, self._design.rows_NP
        size = rows.shape[1]
        has_ties = self.has_ties_D[:, None]
        slope = np.column_stack([(weight * terms.score_eta) @ rows, (weight * terms.score_tie).sum(axis=1)])
        slope -= self._ridge * self._penalized(at)
        slope[:, -1] *= self.has_ties_D
        info = np.zeros((len(weight), size + 1, size + 1))
        info[:, :size, :size] = ((weight * terms.info_eta) @ self._outer).reshape(-1, size, size)
        info[:, :size, size] = info[:, size, :size] = ((weight * terms.info_cross) @ rows) * has_ties
        info[:, size, size] = np.where(self.has_ties_D, (weight * terms.info_tie).sum(axis=1), 1.0)
        info += self._ridge * np.eye(size + 1)
        step: Floats = np.linalg.solve(info, slope[:, :, None])[:, :, 0]
        return step

    def _forward(self, at: Floats, step: Floats, value: Floats) -> tuple[Floats, Terms, Floats]:
        scale = np.ones((len(at), 1))
        for _ in range(_HALVINGS):
            ahead = at + scale * step
            # At most half the way to the bound.
            ahead[:, -1] = np.maximum(ahead[:, -1], np.minimum(at[:, -1], (at[:, -1] + self._model.lowest) / 2))
            terms = self.terms(ahead)
            reached = self._objective(ahead, terms)
            decreased = ~(reached >= value - 1e-9 * (1 + np.abs(value)))
            if not decreased.any():
                break
            scale[decreased] /= 2
        return ahead, terms, reached
