"""Fit strengths, covariates and the tie parameter by Newton's method, many weightings of the votes at once.

Each step uses the expected information and is halved until the likelihood does not fall, so it climbs from anywhere to
the one maximum. A fit says whether it converged: the last Newton step moved no parameter by more than 1e-7.
"""

# D weightings, N rows, P parameters of the odds, R = P + 1 with the tie parameter last, G raters

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harmonixr_platform.feedback.statistics.ties import Davidson, Terms, TieModel
from harmonixr_platform.feedback.statistics.votes import TIE, Design, Floats

# A pull towards zero that knows as much as a fifth of a vote: it keeps the strengths finite when one model won always.
RIDGE = 0.05
_STEPS, _HALVINGS = 200, 30
_STILL = 1e-7
# Numbers in one array at most, so that a thousand refits of many votes fit into memory.
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class Fit:
    """The maximum of each weighting: parameters of the odds, tie parameter, log-likelihood (without the pull)."""

    value_DP: Floats
    tie_D: Floats
    log_likelihood_D: Floats
    converged_D: np.typing.NDArray[np.bool_]

    @property
    def converged(self) -> bool:
        """Whether every weighting did."""
        return bool(self.converged_D.all())


def fit(design: Design, *, weight_DN: Floats | None = None, model: TieModel | None = None, ridge: float = RIDGE) -> Fit:
    """Return the maxima under weightings of the design's rows; without any, each row counts as often as it was seen."""
    weights = design.count_N[None] if weight_DN is None else weight_DN
    size = max(1, _CHUNK // max(1, weights.shape[1]))
    parts = [
        _Climb(design, weights[i : i + size], model or Davidson(), ridge).run() for i in range(0, len(weights), size)
    ]
    return Fit(
        np.concatenate([part.value_DP for part in parts]),
        np.concatenate([part.tie_D for part in parts]),
        np.concatenate([part.log_likelihood_D for part in parts]),
        np.concatenate([part.converged_D for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class Curvature:
    """At a fit's maximum: each rater's score, and each rater's part of the information (pull not included)."""

    score_GR: Floats
    information_GRR: Floats
    pull_RR: Floats


def curvature(design: Design, found: Fit, *, model: TieModel | None = None, ridge: float = RIDGE) -> Curvature:
    """Return score and information by rater at the first weighting's maximum."""
    climb = _Climb(design, design.count_N[None], model or Davidson(), ridge)
    at = np.concatenate([found.value_DP[0], found.tie_D[:1]])[None]
    terms = climb.terms(at)
    rows_NR = np.hstack([design.rows_NP, np.zeros((len(design.rows_NP), 1))])
    free = float(climb.has_ties_D[0])
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
    pull = np.full(rows_NR.shape[1], ridge)
    # A tie parameter that was never fitted has no information; one of its own keeps the matrix regular.
    pull[-1] = ridge if free else 1.0
    return Curvature(score_GR, information_GRR, np.diag(pull))


class _Climb:
    """One run of Newton's method over several weightings."""

    def __init__(self, design: Design, weight_DN: Floats, model: TieModel, ridge: float) -> None:
        self._design, self._weight_DN, self._model, self._ridge = design, weight_DN, model, ridge
        rows = design.rows_NP
        self._outer = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
        # Without a tie among the votes the tie parameter has no finite maximum: it stays where ties never happen.
        self.has_ties_D = weight_DN[:, design.outcome_N == TIE].sum(axis=1) > 0

    def run(self) -> Fit:
        draws, size = len(self._weight_DN), self._design.rows_NP.shape[1]
        at = np.zeros((draws, size + 1))
        at[:, -1] = np.where(self.has_ties_D, self._model.start, self._model.no_ties)
        terms = self.terms(at)
        value = self._objective(at, terms)
        still = np.zeros(draws, dtype=bool)
        for _ in range(_STEPS):
            step = self._step(at, terms)
            still = np.abs(step).max(axis=1) < _STILL
            if still.all():
                break
            at, terms, value = self._forward(at, step, value)
        return Fit(at[:, :-1], at[:, -1], (self._weight_DN * terms.log_likelihood).sum(axis=1), still)

    def terms(self, at: Floats) -> Terms:
        return self._model.terms(at[:, :-1] @ self._design.rows_NP.T, at[:, -1:], self._design.outcome_N)

    def _objective(self, at: Floats, terms: Terms) -> Floats:
        # A row of no weight may be impossible here (a tie where none is left): its likelihood does not count.
        likelihood = np.where(self._weight_DN > 0, self._weight_DN * terms.log_likelihood, 0.0).sum(axis=1)
        result: Floats = likelihood - self._ridge / 2 * (self._pulled(at) ** 2).sum(axis=1)
        return result

    def _pulled(self, at: Floats) -> Floats:
        return np.column_stack([at[:, :-1], np.where(self.has_ties_D, at[:, -1], 0.0)])

    def _step(self, at: Floats, terms: Terms) -> Floats:
        weight, rows = self._weight_DN, self._design.rows_NP
        size = rows.shape[1]
        has_ties = self.has_ties_D[:, None]
        slope = np.column_stack([(weight * terms.score_eta) @ rows, (weight * terms.score_tie).sum(axis=1)])
        slope -= self._ridge * self._pulled(at)
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
            # Half the way to the bound, never onto it.
            ahead[:, -1] = np.maximum(ahead[:, -1], np.minimum(at[:, -1], (at[:, -1] + self._model.lowest) / 2))
            terms = self.terms(ahead)
            reached = self._objective(ahead, terms)
            fell = ~(reached >= value - 1e-9 * (1 + np.abs(value)))
            if not fell.any():
                break
            scale[fell] /= 2
        return ahead, terms, reached
