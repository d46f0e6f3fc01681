"""Measure the hidden utility of a model on fresh gaps: of one fill, and of the best of n by the reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harmonixr_model.fill.ranker import FilledWindow, Ranker
from harmonixr_platform.loop.pair_pool import GapFiller
from harmonixr_platform.loop.simulated_listener import Taste
from harmonixr_platform.training.composed_gaps import Gap
from harmonixr_platform.training.model_metrics import only_prompt
from harmonixr_platform.training.promotion_gate import cluster_error


def hidden_utilities(
    filler: GapFiller,
    ranker: Ranker,
    gaps: Sequence[Gap],
    *,
    taste: Taste,
    fills: int,
    best_of: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Return lists with one number a gap.

    `single` is the mean utility of a fill, `best` the utility of the reward model's choice, `oracle` the highest
    utility, and `notes` the mean number of notes. As in the service, the fill with the highest lower confidence bound
    of the reward is chosen.
    """
    single, best, oracle, notes = [], [], [], []
    for number, gap in enumerate(gaps):
        prompt = only_prompt(gap, max_length=ranker.trunk.config.max_length)
        made = filler.fill(gap, max(fills, best_of), seed=seed + 1000 * number)
        utilities = [taste.utility(gap.song.score, gap.region, fill.notes) for fill in made]
        rewards = ranker.score([[FilledWindow(prompt, fill.tokens[0])] for fill in made[:best_of]])
        single.append(float(np.mean(utilities)))
        best.append(utilities[max(range(len(rewards)), key=lambda i: rewards[i].lower)])
        oracle.append(max(utilities[:best_of]))
        notes.append(float(np.mean([sum(map(len, fill.notes.values())) for fill in made])))
        progress(number + 1)
    return {"single": single, "best": best, "oracle": oracle, "notes": notes}


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over gaps and its 95 % interval; every gap is of another piece."""
    mean = float(np.mean(values))
    error = cluster_error(values, [str(i) for i in range(len(values))], level=0.95)
    return mean, mean - error, mean + error
