"""What the hidden utility says of a model on fresh gaps: of one fill, and of the best of n by the reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harmonixr_model.fill.ranker import FilledWindow, Ranker
from harmonixr_platform.loop.pair_pool import Contestant
from harmonixr_platform.loop.simulated_listener import Taste
from harmonixr_platform.training.composed_gaps import Gap
from harmonixr_platform.training.model_metrics import prompt_of
from harmonixr_platform.training.promotion_gate import cluster_error


def ask(
    contestant: Contestant,
    ranker: Ranker,
    gaps: Sequence[Gap],
    *,
    taste: Taste,
    drawn: int,
    best_of: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Return the hidden utility of each gap's fills: `single` the mean of one, `best` of the reward's choice, `oracle`.

    Each is a list with a number a gap. The choice is by the reward's lower confidence bound, as in service.
    """
    single, best, oracle, notes = [], [], [], []
    for number, gap in enumerate(gaps):
        prompt = prompt_of(gap, max_length=contestant.infiller.max_length)
        fills = contestant.fill(gap, max(drawn, best_of), seed=seed + 1000 * number)
        utilities = [taste.utility(gap.song.score, gap.region, fill.notes) for fill in fills]
        rewards = ranker.score([[FilledWindow(prompt, fill.tokens[0])] for fill in fills[:best_of]])
        single.append(float(np.mean(utilities)))
        best.append(utilities[max(range(len(rewards)), key=lambda i: rewards[i].lower)])
        oracle.append(max(utilities[:best_of]))
        notes.append(float(np.mean([sum(map(len, fill.notes.values())) for fill in fills])))
        progress(number + 1)
    return {"single": single, "best": best, "oracle": oracle, "notes": notes}


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over gaps and its 95 % interval; each gap is of a piece of its own."""
    mean = float(np.mean(values))
    error = cluster_error(values, [str(i) for i in range(len(values))], level=0.95)
    return mean, mean - error, mean + error
