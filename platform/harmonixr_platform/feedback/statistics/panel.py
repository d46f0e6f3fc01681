"""A panel of raters that votes by a known truth, to check the statistics and to plan a study. Knows no store.

Every rater has tastes of their own (a normal shift of each model's strength) and a habit of preferring the side heard
first, both around the panel's; this is what makes votes of one rater alike. Everything drawn here is simulated.
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
    """The truth behind simulated votes, in log odds: strengths, spread of raters' tastes, side effect, its spread."""

    strengths: Mapping[str, float]
    taste: float = 0.0
    side: float = 0.0
    side_spread: float = 0.0
    log_ties: float = -0.7
    notes: float = 0.0


def draw_votes(panel: Panel, *, raters: int, each: int | Sequence[int], rng: np.random.Generator) -> list[Vote]:
    """Return the votes of raters on pairs and sides drawn by fair chance: `each` votes of every rater, or of each."""
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
    outcome = _draw_outcomes(odds, panel.log_ties, rng)
    return [
        Vote(models[i], models[j], int(outcome[r, k]), f"rater-{r}", side=int(side[r, k]), notes=float(notes[r, k]))
        for r in range(raters)
        for k, (i, j) in enumerate(pair[r, : counts[r]])
    ]


def _draw_outcomes(odds: Floats, log_ties: float, rng: np.random.Generator) -> Ints:
    chances = Davidson().chances(odds, log_ties)
    drawn = rng.random(odds.shape)
    outcomes: Ints = (drawn >= chances[0]).astype(np.int64) + (drawn >= chances[0] + chances[1])
    return outcomes
