"""Which model is preferred: Bradley–Terry with Davidson's ties, intervals by resampling raters. Knows no store.

Davidson (1970): with strengths θ and a tie parameter ν, a win of i over j has weight e^θi and a tie ν·e^((θi+θj)/2).
In (θ, log ν) this is a multinomial logit, so the likelihood is concave and Newton's method finds its one maximum.
Raters are resampled whole: votes of one rater are not independent, and intervals that take them so are too narrow.
"""

# M models, P = M + 1 parameters (strengths, log ν), O = 3 outcomes (first, second, tie), G groups of equal comparisons

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harmonixr_platform.feedback.reader import Judged

# A little pull towards equal strengths keeps them finite when one model won every time.
_RIDGE = 0.05
_STEPS = 50
_OUTCOMES = {"first": 0, "second": 1, "tie": 2}
MANY_DRAWS = 200

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer between two models; `outcome` is 0 (first won), 1 (second won) or 2 (tie)."""

    first: str
    second: str
    outcome: int
    rater: str


@dataclass(frozen=True, slots=True)
class Standing:
    """One model's place. `strength` is in log odds, zero on average, with its 95 % interval."""

    model: str
    votes: int
    strength: float
    low: float
    high: float


def votes_of(judged: Sequence[Judged]) -> list[Vote]:
    """Return the answers that rank two models: not both bad or skip, nor two fills of one model."""
    return [
        Vote(j.pair.first.model_version, j.pair.second.model_version, _OUTCOMES[j.outcome], j.judgment.rater)
        for j in judged
        if j.outcome in _OUTCOMES and j.pair.first.model_version != j.pair.second.model_version
    ]


def win_matrix(votes: Sequence[Vote]) -> dict[str, dict[str, float]]:
    """Return how often the row's model beat the column's; a tie is half a win for each."""
    models = sorted({model for vote in votes for model in (vote.first, vote.second)})
    wins = {row: dict.fromkeys(models, 0.0) for row in models}
    for vote in votes:
        wins[vote.first][vote.second] += (1.0, 0.0, 0.5)[vote.outcome]
        wins[vote.second][vote.first] += (0.0, 1.0, 0.5)[vote.outcome]
    return wins


def standings(votes: Sequence[Vote], *, draws: int = MANY_DRAWS, seed: int = 0) -> list[Standing]:
    """Return the models, strongest first, each with a 95 % interval over raters resampled `draws` times."""
    models = sorted({model for vote in votes for model in (vote.first, vote.second)})
    if not models:
        return []
    strengths = _strengths(votes, models)
    by_rater: dict[str, list[Vote]] = {}
    for vote in votes:
        by_rater.setdefault(vote.rater, []).append(vote)
    raters = sorted(by_rater)
    rng = np.random.default_rng(seed)
    drawn = [
        _strengths([vote for i in rng.integers(len(raters), size=len(raters)) for vote in by_rater[raters[i]]], models)
        for _ in range(draws)
    ]
    low, high = np.percentile(np.array(drawn or [strengths]), [2.5, 97.5], axis=0)
    counts = Counter(model for vote in votes for model in (vote.first, vote.second))
    found = [
        Standing(model, counts[model], float(strengths[i]), float(low[i]), float(high[i]))
        for i, model in enumerate(models)
    ]
    return sorted(found, key=lambda standing: -standing.strength)


def _strengths(votes: Sequence[Vote], models: Sequence[str]) -> Floats:
    """Return the maximum-likelihood strengths, centred."""
    index = {model: i for i, model in enumerate(models)}
    groups = Counter((index[vote.first], index[vote.second], vote.outcome) for vote in votes)
    features_GOP = np.zeros((len(groups), 3, len(models) + 1))
    outcome_G = np.array([outcome for _, _, outcome in groups])
    weight_G = np.array(list(groups.values()), dtype=float)
    for g, (first, second, _) in enumerate(groups):
        features_GOP[g, 0, first] = features_GOP[g, 1, second] = 1
        features_GOP[g, 2, [first, second]] = 0.5
        features_GOP[g, 2, -1] = 1
    value_P = np.zeros(len(models) + 1)
    for _ in range(_STEPS):
        step_P = _newton_step(features_GOP, outcome_G, weight_G, value_P)
        value_P = value_P + step_P
        if np.abs(step_P).max() < 1e-8:
            break
    strengths: Floats = value_P[:-1] - value_P[:-1].mean()
    return strengths


def _newton_step(features_GOP: Floats, outcome_G: npt.NDArray[np.int64], weight_G: Floats, value_P: Floats) -> Floats:
    logits_GO = features_GOP @ value_P
    chance_GO = np.exp(logits_GO - logits_GO.max(axis=1, keepdims=True))
    chance_GO /= chance_GO.sum(axis=1, keepdims=True)
    mean_GP = np.einsum("go,gop->gp", chance_GO, features_GOP)
    seen_GP = features_GOP[np.arange(len(outcome_G)), outcome_G]
    gradient_P = weight_G @ (seen_GP - mean_GP) - _RIDGE * value_P
    second_GPP = np.einsum("go,gop,goq->gpq", chance_GO, features_GOP, features_GOP)
    spread_GPP = second_GPP - mean_GP[:, :, None] * mean_GP[:, None, :]
    curvature_PP = np.einsum("g,gpq->pq", weight_G, spread_GPP) + _RIDGE * np.eye(len(value_P))
    step_P = np.linalg.solve(curvature_PP, gradient_P)
    # Far from the maximum a full step may overshoot; strengths beyond a few units mean nothing anyway.
    clipped: Floats = np.clip(step_P, -2.0, 2.0)
    return clipped
