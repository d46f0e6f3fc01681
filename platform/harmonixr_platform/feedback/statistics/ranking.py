"""Rank models by votes: strengths, intervals, the side's effect, and what a second opinion says. Knows no store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harmonixr_platform.feedback.statistics.connected import Disconnected, separate_groups, undefeated
from harmonixr_platform.feedback.statistics.fit import Fit, fit
from harmonixr_platform.feedback.statistics.intervals import BEST, DRAWS, Intervals, Method, intervals
from harmonixr_platform.feedback.statistics.ties import Davidson, RaoKupper, TieModel
from harmonixr_platform.feedback.statistics.votes import NOTES, SIDE, Design, Floats, Vote, design


@dataclass(frozen=True, slots=True)
class Standing:
    """One model's place. `strength` is in log odds, zero on average, with its 95 % interval.

    The interval is None with a single rater. `iid_low` and `iid_high` are the usual bootstrap's, too narrow as a rule;
    None where it was not asked for.
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
    """What something besides the model adds to the log odds."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """Rao and Kupper's model beside Davidson's: do both say the same?

    `largest_gap` is between their win rates (ties half) of any two models.
    """

    same_order: bool
    largest_gap: float
    log_likelihood_davidson: float
    log_likelihood_rao_kupper: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Models, strongest first, on equal sides; `at_equal_notes` is the same fit with the note count held equal too.

    The effects: of lying on side a; of twice the notes. `ties` is Davidson's ν: between equals, ties for each
    win of one side. `unbounded` names models that never lost to the rest: only the pull keeps them finite.
    """

    standings: tuple[Standing, ...]
    raters: int
    side: Effect | None
    notes: Effect | None
    at_equal_notes: tuple[Standing, ...]
    ties: float
    unbounded: tuple[str, ...]
    converged: bool
    check: Check


def rank(votes: Sequence[Vote], *, method: Method = BEST, draws: int = DRAWS, seed: int = 0) -> Ranking:
    """Return the ranking of one vote at least; raises Disconnected where the votes cannot rank all models."""
    groups = separate_groups(votes)
    if len(groups) > 1:
        told = " from ".join("{" + ", ".join(group) + "}" for group in groups)
        raise Disconnected(f"no comparison joins {told}, so they cannot be ranked together; judge pairs across them")
    table = design(votes, covariates=(SIDE,))
    found = fit(table)
    with_notes = design(votes, covariates=(SIDE, NOTES))
    found_with_notes = fit(with_notes)
    counts = Counter(model for vote in votes for model in (vote.first, vote.second))
    other = fit(table, model=RaoKupper())
    return Ranking(
        standings=_standings(table, found, counts, method=method, draws=draws, seed=seed, with_iid=True),
        raters=len(table.raters),
        side=_effect(table, found, SIDE, method=method, draws=draws, seed=seed),
        notes=_effect(with_notes, found_with_notes, NOTES, method=method, draws=draws, seed=seed),
        at_equal_notes=_standings(with_notes, found_with_notes, counts, method=method, draws=draws, seed=seed)
        if NOTES in with_notes.covariates
        else (),
        ties=float(np.exp(found.tie_D[0])) if any(vote.outcome == 2 for vote in votes) else 0.0,
        unbounded=undefeated(votes),
        converged=found.converged and found_with_notes.converged and other.converged,
        check=_check(table, found, other),
    )


def _standings(
    table: Design,
    found: Fit,
    counts: Counter[str],
    *,
    method: Method,
    draws: int,
    seed: int,
    with_iid: bool = False,
) -> tuple[Standing, ...]:
    strength_M = table.strengths_MP @ found.value_DP[0]
    ours = intervals(table, found, table.strengths_MP, method=method, draws=draws, seed=seed)
    usual = None
    if with_iid:
        usual = intervals(table, found, table.strengths_MP, method="iid_bootstrap", draws=draws, seed=seed)
    standings = [
        Standing(
            model,
            counts[model],
            float(strength_M[m]),
            *_ends(ours, m),
            *_ends(usual, m),
        )
        for m, model in enumerate(table.models)
    ]
    return tuple(sorted(standings, key=lambda standing: -standing.strength))


def _effect(table: Design, found: Fit, name: str, *, method: Method, draws: int, seed: int) -> Effect | None:
    if name not in table.covariates:
        return None
    asked_KP = table.effects_CP[[table.covariates.index(name)]]
    at = intervals(table, found, asked_KP, method=method, draws=draws, seed=seed)
    return Effect(float((asked_KP @ found.value_DP[0])[0]), *_ends(at, 0))


def _ends(at: Intervals | None, k: int) -> tuple[float | None, float | None]:
    return (None, None) if at is None else (float(at.low_K[k]), float(at.high_K[k]))


def _check(table: Design, davidson: Fit, rao_kupper: Fit) -> Check:
    strengths = [table.strengths_MP @ found.value_DP[0] for found in (davidson, rao_kupper)]
    orders = [list(np.argsort(-strength_M, kind="stable")) for strength_M in strengths]
    rates = [
        _win_rates(Davidson(), strengths[0], float(davidson.tie_D[0])),
        _win_rates(RaoKupper(), strengths[1], float(rao_kupper.tie_D[0])),
    ]
    return Check(
        same_order=orders[0] == orders[1],
        largest_gap=float(np.abs(rates[0] - rates[1]).max(initial=0.0)),
        log_likelihood_davidson=float(davidson.log_likelihood_D[0]),
        log_likelihood_rao_kupper=float(rao_kupper.log_likelihood_D[0]),
    )


def _win_rates(model: TieModel, strength_M: Floats, tie: float) -> Floats:
    """Return each pair's chance of first over second, half a tie added."""
    pairs = np.array(list(combinations(range(len(strength_M)), 2)))
    chances = model.chances(strength_M[pairs[:, 0]] - strength_M[pairs[:, 1]], tie)
    rates: Floats = chances[0] + chances[2] / 2
    return rates
