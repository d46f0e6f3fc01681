"""Rank models by votes: strengths with intervals, effects of side and note count, and a check by a second model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from harmonixr_platform.feedback.statistics.comparison_graph import Disconnected, separate_groups, undefeated
from harmonixr_platform.feedback.statistics.fit import Fit, fit
from harmonixr_platform.feedback.statistics.intervals import BEST, RESAMPLES, Intervals, Method, intervals
from harmonixr_platform.feedback.statistics.ties import Davidson, RaoKupper, TieModel
from harmonixr_platform.feedback.statistics.votes import NOTES, SIDE, Design, Floats, Vote, design

IntervalMethod = Callable[[Design, Fit, Floats], Intervals | None]


@dataclass(frozen=True, slots=True)
class Standing:
    """One model's strength in log odds, zero on average, with its 95 % interval (None with a single rater).

    `iid_low` and `iid_high` are from the i.i.d. bootstrap, which is usually too narrow; None if not computed.
    """

    model: str
    votes: int
    strength: float
    low: float | None
    high: float | None
    iid_low: float | None
    iid_high: float | None


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of a covariate on the log odds."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class TieModelCheck:
    """Comparison of Rao and Kupper's model with Davidson's.

    `largest_gap` is the largest difference between their win rates (ties count half) of any two models.
    """

    same_order: bool
    largest_gap: float
    log_likelihood_davidson: float
    log_likelihood_rao_kupper: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Models, strongest first, for equal sides; `at_equal_notes` is for equal note counts too.

    `side` is the effect of side a and `notes` that of twice the notes. `ties` is Davidson's ν: between equal models,
    the number of ties for each win of one side. `unbounded` has the models that never lost to the others; only the
    ridge penalty keeps their strength finite.
    """

    standings: tuple[Standing, ...]
    raters: int
    side: Effect | None
    notes: Effect | None
    at_equal_notes: tuple[Standing, ...]
    ties: float
    unbounded: tuple[str, ...]
    converged: bool
    check: TieModelCheck


def rank(votes: Sequence[Vote], *, method: Method = BEST, resamples: int = RESAMPLES, seed: int = 0) -> Ranking:
    """Return the ranking of at least one vote; raise Disconnected if the votes cannot rank all models."""
    groups = separate_groups(votes)
    if len(groups) > 1:
        apart = " from ".join("{" + ", ".join(group) + "}" for group in groups)
        raise Disconnected(f"no comparison connects {apart}, so they have no joint ranking; judge pairs of both groups")
    table = design(votes, covariates=(SIDE,))
    found = fit(table)
    with_notes = design(votes, covariates=(SIDE, NOTES))
    found_with_notes = fit(with_notes)
    votes_by_model = Counter(model for vote in votes for model in (vote.first, vote.second))
    other = fit(table, model=RaoKupper())
    at_equal_notes: tuple[Standing, ...] = ()
    ours = partial(intervals, method=method, resamples=resamples, seed=seed)
    if NOTES in with_notes.covariates:
        at_equal_notes = _standings(with_notes, found_with_notes, votes_by_model, ours)
    iid = intervals(table, found, table.strengths_MP, method="iid_bootstrap", resamples=resamples, seed=seed)
    return Ranking(
        standings=_standings(table, found, votes_by_model, ours, iid),
        raters=len(table.raters),
        side=_effect(table, found, SIDE, ours),
        notes=_effect(with_notes, found_with_notes, NOTES, ours),
        at_equal_notes=at_equal_notes,
        ties=float(np.exp(found.tie_D[0])) if any(vote.outcome == 2 for vote in votes) else 0.0,
        unbounded=undefeated(votes),
        converged=found.converged and found_with_notes.converged and other.converged,
        check=_check(table, found, other),
    )


def _standings(
    table: Design, found: Fit, votes: Counter[str], method: IntervalMethod, iid: Intervals | None = None
) -> tuple[Standing, ...]:
    strength_M = table.strengths_MP @ found.value_DP[0]
    ours = method(table, found, table.strengths_MP)
    standings = [
        Standing(model, votes[model], float(strength_M[m]), *_bounds(ours, m), *_bounds(iid, m))
        for m, model in enumerate(table.models)
    ]
    return tuple(sorted(standings, key=lambda standing: -standing.strength))


def _effect(table: Design, found: Fit, name: str, method: IntervalMethod) -> Effect | None:
    if name not in table.covariates:
        return None
    contrast_KP = table.effects_CP[[table.covariates.index(name)]]
    return Effect(float((contrast_KP @ found.value_DP[0])[0]), *_bounds(method(table, found, contrast_KP), 0))


def _bounds(found: Intervals | None, k: int) -> tuple[float | None, float | None]:
    return (None, None) if found is None else (float(found.low_K[k]), float(found.high_K[k]))


def _check(table: Design, davidson: Fit, rao_kupper: Fit) -> TieModelCheck:
    strengths = [table.strengths_MP @ found.value_DP[0] for found in (davidson, rao_kupper)]
    orders = [list(np.argsort(-strength_M, kind="stable")) for strength_M in strengths]
    rates = [
        _win_rates(Davidson(), strengths[0], float(davidson.tie_D[0])),
        _win_rates(RaoKupper(), strengths[1], float(rao_kupper.tie_D[0])),
    ]
    return TieModelCheck(
        same_order=orders[0] == orders[1],
        largest_gap=float(np.abs(rates[0] - rates[1]).max(initial=0.0)),
        log_likelihood_davidson=float(davidson.log_likelihood_D[0]),
        log_likelihood_rao_kupper=float(rao_kupper.log_likelihood_D[0]),
    )


def _win_rates(model: TieModel, strength_M: Floats, tie: float) -> Floats:
    """Return each pair's win rate of first over second, with half of the ties."""
    pairs = np.array(list(combinations(range(len(strength_M)), 2)))
    chances = model.chances(strength_M[pairs[:, 0]] - strength_M[pairs[:, 1]], tie)
    rates: Floats = chances[0] + chances[2] / 2
    return rates
