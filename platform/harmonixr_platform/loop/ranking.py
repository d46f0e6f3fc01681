"""Compare the reward model's ranking of unseen fills with the ranking by the hidden utility."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr
from torch import Tensor

from harmonixr_model.fill.ranker import Ranker, fill_features
from harmonixr_model.preference.config import RewardConfig
from harmonixr_model.preference.model import RewardHeads
from harmonixr_model.preference.pairs import RatedPair, Split, split_comparisons
from harmonixr_model.training.reward_loop import RewardTraining, fit_rewards
from harmonixr_platform.training.reward_data import Comparisons, windows_of

Floats = npt.NDArray[np.floating]


def ranking_quality(
    ranker: Ranker,
    comparisons: Comparisons,
    utility_S: Floats,
    *,
    held_out: float,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Return Spearman's ρ between reward and utility over pairs of fills of held-out pieces.

    `trunk_alone` and `music_alone` are of heads fitted to the same judgments with only the trunk's features or only the
    musical measures. `scatter` has the differences (utility, reward) of the held-out pairs.
    """
    trunk, heads = ranker.trunk, ranker.heads
    rows = []
    for number, fill in enumerate(comparisons.fills):
        rows.append(fill_features(trunk, windows_of(fill, max_length=trunk.config.max_length), heads.config))
        progress(number + 1)
    features_SF = torch.stack(rows)
    split = split_comparisons(comparisons.pairs, held_out=held_out, seed=seed)
    held_out_pairs = sorted({tuple(sorted((p.first, p.second))) for p in (comparisons.pairs[i] for i in split.test)})
    with torch.no_grad():
        reward_S = heads(features_SF).mean(-1).numpy()
    music = heads.config.music_features
    trunk_config = RewardConfig(trunk_width=heads.config.trunk_width, trunk_scale=1.0, music_features=0)
    music_config = RewardConfig(trunk_width=heads.config.trunk_width, trunk_layers=0)
    alone = {
        "trunk_alone": _fitted(trunk_config, features_SF[:, music:], comparisons.pairs, split, seed=seed),
        "music_alone": _fitted(music_config, features_SF[:, :music], comparisons.pairs, split, seed=seed),
    }
    scatter = [[float(utility_S[a] - utility_S[b]), float(reward_S[a] - reward_S[b])] for a, b in held_out_pairs]
    return {
        "held_out_pairs": len(held_out_pairs),
        "held_out_pieces": len({comparisons.pairs[i].piece_id for i in split.test}),
        "spearman": _of_pairs(reward_S, utility_S, held_out_pairs),
        "spearman_alone": {name: _of_pairs(values, utility_S, held_out_pairs) for name, values in alone.items()},
        "best_possible_accuracy": _best_accuracy(utility_S, [comparisons.pairs[i] for i in split.test]),
        "scatter": scatter,
    }


def _of_pairs(values_S: Floats, utility_S: Floats, pairs: Sequence[tuple[int, ...]]) -> float:
    differences = [(values_S[a] - values_S[b], utility_S[a] - utility_S[b]) for a, b in pairs]
    # In both orders: the order of two fills is arbitrary.
    both = differences + [(-one, -other) for one, other in differences]
    one, other = (np.array(column) for column in zip(*both, strict=True))
    return float(spearmanr(one, other).statistic) if one.any() and other.any() else 0.0


def _fitted(
    config: RewardConfig, features_SF: Tensor, pairs: Sequence[RatedPair], split: Split, *, seed: int
) -> Floats:
    torch.manual_seed(seed)
    heads = RewardHeads(config)
    fitting = fit_rewards(
        heads, features_SF, pairs=pairs, train=split.train, valid=split.valid, config=RewardTraining(seed=seed)
    )
    for _ in fitting:
        pass
    with torch.no_grad():
        rewards: Floats = heads(features_SF).mean(-1).numpy()
    return rewards


def _best_accuracy(utility_S: Floats, pairs: Sequence[RatedPair]) -> float:
    """Return the share of decided comparisons that the better fill won: the accuracy of the hidden utility itself."""
    decided = [p for p in pairs if p.outcome < 2 and utility_S[p.first] != utility_S[p.second]]
    return float(np.mean([(utility_S[p.first] > utility_S[p.second]) == (p.outcome == 0) for p in decided]))
