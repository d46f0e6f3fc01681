"""Simulated votes of raters with known strengths, to check the statistics and to plan a study.

Each rater has an individual taste (a normal shift of each model's strength) and an individual preference for a side.
Both make the votes of one rater dependent.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harmonixr_platform.feedback.statistics.ties import Davidson
from harmonixr_platform.feedback.statistics.votes import Floats, Ints, Vote


@dataclass(frozen=True, slots=True)
class Panel:
    """The parameters of simulated votes, in log odds: strengths, spread of tastes, side effect and its spread."""

    strengths: Mapping[str, float]
    taste: float = 0.0
    side: float = 0.0
    side_spread: float = 0.0
    log_ties: float = -0.7
    notes: float = 0.0


def sample_votes(panel: Panel, *, raters: int, each: int | Sequence[int], rng: np.random.Generator) -> list[Vote]:
    """Return votes of raters on uniformly sampled pairs and sides; `each` is the number for every or for each rater."""
    counts = np.broadcast_to(np.asarray(each), (raters,))
    most = int(counts.max())
    models = sorted(panel.strengths)
    pairs = np.array(list(itertools.combinations(range(len(models)), 2)))
    base = np.array([panel.strengths[model] for model in models])
    tastes = base + rng.normal(0, panel.taste, (raters, len(models)))
    habits = rng.normal(panel.side, panel.side_spread, (raters, 1))
    pair = pairs[rng.integers(len(pairs), size=(raters, most))]
    side = rng.choice((-1, 1), size=(raters, most))
    notes = rng.normal(0, 0.5, (raters, most)) if panel.notes else np.zeros((raters, most))
    rater = np.arange(raters)[:, None]
    odds = tastes[rater, pair[..., 0]] - tastes[rater, pair[..., 1]] + habits * side + panel.notes * notes
    outcome = _sample_outcomes(odds, panel.log_ties, rng)
    return [
        Vote(models[i], models[j], int(outcome[r, k]), f"rater-{r}", side=int(side[r, k]), notes=float(notes[r, k]))
        for r in range(raters)
        for k, (i, j) in enumerate(pair[r, : counts[r]])
    ]


def _sample_outcomes(odds: Floats, log_ties: float, rng: np.random.Generator) -> Ints:
    chances = Davidson().chances(odds, log_ties)
    uniform = rng.random(odds.shape)
    outcomes: Ints = (uniform >= chances[0]).astype(np.int64) + (uniform >= chances[0] + chances[1])
    return outcomes
