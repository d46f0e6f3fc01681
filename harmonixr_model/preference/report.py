"""The quality report of a reward model: margins, calibration, rater agreement, and the effect of nuisances.

A nuisance such as the number of notes may explain a model's preferences; a regression measures how much.
"""

# C comparisons, N nuisances

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from harmonixr_model.preference.loss import LOSS, TIE, WIN
from harmonixr_model.preference.metrics import reliability
from harmonixr_model.preference.musical_features import NAMES
from harmonixr_model.preference.pairs import RatedPair

Floats = npt.NDArray[np.floating]

# Features that may please a listener without musical quality. Fills of one gap are equally long, so the number of notes
# is their density.
NUISANCES = ("log_notes", "notes_an_onset", "pitch_range", "velocity_shift")
_MARGINS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How often two raters of one pair agree, without ties, and the accuracy of always choosing the likelier side.

    `accuracy` assumes that all raters of a pair choose its likelier side with one probability p, so that two agree with
    probability p² + (1 - p)². NaN where no pair was judged twice.
    """

    pairs: int
    agreement: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Nuisance:
    """How well nuisances explain the model's margins: R², standardised weights, and their own accuracy.

    `accuracy_alone` is that of a logistic regression on the nuisances, fitted to the model's training comparisons.
    """

    r_squared: float
    weights: dict[str, float]
    accuracy_alone: float


def quality(
    margin_C: Floats, pairs: Sequence[RatedPair], *, measures_SM: Floats, fitted: Sequence[RatedPair]
) -> dict[str, Any]:
    """Return the report as plain JSON values.

    Args:
        margin_C: the model's reward of the first fill less the second's, for each of `pairs`.
        pairs: the reported comparisons.
        measures_SM: `music_features` of every fill, without columns where the model has none.
        fitted: the comparisons that the model was fitted to.

    """
    outcome_C = np.array([pair.outcome for pair in pairs], dtype=int)
    decided_C = outcome_C != TIE
    towards_winner = np.where(outcome_C == LOSS, -margin_C, margin_C)[decided_C]
    content = {
        "reliability": [
            {"said": row.confidence, "right": row.accuracy, "comparisons": row.comparisons}
            for row in reliability(_sigmoid(towards_winner))
        ],
        "accuracy_by_margin": _by_margin(towards_winner),
        "human_ceiling": asdict(human_ceiling(pairs)),
    }
    if measures_SM.shape[1] == len(NAMES) and decided_C.any():
        content["nuisances"] = asdict(nuisance_regression(margin_C, pairs, measures_SM=measures_SM, fitted=fitted))
    return content


def human_ceiling(pairs: Sequence[RatedPair]) -> Ceiling:
    """Return the agreement of raters on the pairs that several judged; see `Ceiling`."""
    votes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for pair in pairs:
        if pair.outcome == TIE:
            continue
        low, high = sorted((pair.first, pair.second))
        votes[low, high].append(pair.outcome if low == pair.first else LOSS + WIN - pair.outcome)
    overlapping = [cast for cast in votes.values() if len(cast) > 1]
    if not overlapping:
        return Ceiling(0, float("nan"), float("nan"))
    # Each pair counts once, however many raters it had.
    agreement = float(np.mean([np.mean([a == b for a, b in combinations(cast, 2)]) for cast in overlapping]))
    return Ceiling(len(overlapping), agreement, (1 + max(0.0, 2 * agreement - 1) ** 0.5) / 2)


def nuisance_regression(
    margin_C: Floats, pairs: Sequence[RatedPair], *, measures_SM: Floats, fitted: Sequence[RatedPair]
) -> Nuisance:
    """Regress margins on nuisances; see `Nuisance`."""
    places = [NAMES.index(name) for name in NUISANCES]
    scale_N = measures_SM[:, places].std(0) + 1e-9
    difference_CN = _differences(pairs, measures_SM[:, places] / scale_N)
    weight_N, *_ = np.linalg.lstsq(difference_CN, margin_C, rcond=None)
    left = float(((margin_C - difference_CN @ weight_N) ** 2).sum())
    total = float((margin_C**2).sum())
    counter_N = _logistic(fitted, measures_SM[:, places] / scale_N)
    outcome_C = np.array([pair.outcome for pair in pairs])
    predicted_C = difference_CN @ counter_N
    right_C = np.where(outcome_C == WIN, predicted_C > 0, predicted_C < 0)[outcome_C != TIE]
    spread = float(margin_C.std()) + 1e-9
    return Nuisance(
        r_squared=1 - left / total if total else 0.0,
        weights={name: float(weight / spread) for name, weight in zip(NUISANCES, weight_N, strict=True)},
        accuracy_alone=float(right_C.mean()) if len(right_C) else float("nan"),
    )


def _differences(pairs: Sequence[RatedPair], values_SN: Floats) -> Floats:
    first = [pair.first for pair in pairs]
    second = [pair.second for pair in pairs]
    difference: Floats = values_SN[first] - values_SN[second]
    return difference


def _logistic(pairs: Sequence[RatedPair], values_SN: Floats, *, steps: int = 50) -> Floats:
    """Return the weights of a logistic regression without intercept on decided pairs, by damped Newton steps."""
    decided = [pair for pair in pairs if pair.outcome != TIE]
    weight_N = np.zeros(values_SN.shape[1])
    if not decided:
        return weight_N
    difference_CN = _differences(decided, values_SN)
    won_C = np.array([pair.outcome == WIN for pair in decided], dtype=float)
    for _ in range(steps):
        p_C = _sigmoid(difference_CN @ weight_N)
        slope_N = difference_CN.T @ (won_C - p_C) - weight_N
        curve_NN = difference_CN.T @ (difference_CN * (p_C * (1 - p_C))[:, None]) + np.eye(len(weight_N))
        weight_N = weight_N + np.linalg.solve(curve_NN, slope_N)
    return weight_N


def _sigmoid(margin: Floats) -> Floats:
    """Return the logistic function, by tanh, which does not overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * margin)))


def _by_margin(towards_winner: Floats) -> list[dict[str, float]]:
    """Return the accuracy in four equal parts of the comparisons, from the smallest to the largest margins."""
    if not len(towards_winner):
        return []
    edges = [0.0, *np.quantile(np.abs(towards_winner), _MARGINS).tolist(), float("inf")]
    size = np.abs(towards_winner)
    rows = []
    for low, high in pairwise(edges):
        inside = (size >= low) & (size < high)
        if inside.any():
            accuracy = float((towards_winner[inside] > 0).mean())
            rows.append({"from": low, "accuracy": accuracy, "comparisons": int(inside.sum())})
    return rows
