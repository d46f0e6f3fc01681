"""Direct preference optimisation: the loss, and the comparisons of one gap it is taken over. Knows no model.

Rafailov et al. (2023), "Direct Preference Optimization", eq. 7, with two additions: labels smoothed by how often the
listeners contradict themselves (Mitchell 2023, "A note on DPO with noisy preferences", cDPO), and the likelihood of
what was chosen (Pang et al. 2024, "Iterative Reasoning Preference Optimization", eq. 2), which DPO alone may lower.
"""

# S fills of a gap, C comparisons

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonixr_model.preference.loss import TIE, WIN
from harmonixr_model.preference.pairs import RatedPair


@dataclass(frozen=True, slots=True)
class DpoConfig:
    """How preferences bind: `beta` the pull towards the reference, `smoothing` the share of labels taken as wrong.

    `likelihood` weighs the nats a token of what was chosen.
    """

    beta: float = 0.1
    smoothing: float = 0.0
    likelihood: float = 0.1


@dataclass(frozen=True, slots=True)
class DpoLoss:
    """The loss of one gap, and what it is made of: the share of pairs ranked rightly, and how far fills moved."""

    total: Tensor
    preference: float
    likelihood: float
    accuracy: float
    margin: float


@dataclass(frozen=True, slots=True)
class Preferences:
    """What listeners said of one gap's fills: in each comparison `winner` was chosen over `loser`, rows of the gap.

    `weight` sums to one, each pair of fills weighing the same however often it was judged.
    """

    chosen_C: Tensor
    rejected_C: Tensor
    weight_C: Tensor


def preferences_of(pairs: Sequence[RatedPair], rows: Sequence[int]) -> Preferences | None:
    """Return the decided comparisons between the fills `rows`; None where there is none. Ties prefer nothing."""
    place = {row: number for number, row in enumerate(rows)}
    votes: dict[tuple[int, int], int] = defaultdict(int)
    for pair in pairs:
        if pair.outcome == TIE:
            continue
        first, second = place[pair.first], place[pair.second]
        votes[(first, second) if pair.outcome == WIN else (second, first)] += 1
    if not votes:
        return None
    of_pair: dict[frozenset[int], int] = defaultdict(int)
    for sides, count in votes.items():
        of_pair[frozenset(sides)] += count
    weight = torch.tensor([count / of_pair[frozenset(sides)] for sides, count in votes.items()])
    return Preferences(
        chosen_C=torch.tensor([winner for winner, _ in votes]),
        rejected_C=torch.tensor([loser for _, loser in votes]),
        weight_C=weight / weight.sum(),
    )


def dpo_loss(
    policy_S: Tensor, reference_S: Tensor, preferences: Preferences, *, sampled_S: Tensor, config: DpoConfig
) -> DpoLoss:
    """Return the loss of one gap.

    Args:
        policy_S: log probability of each fill under the model that learns.
        reference_S: the same under the model it began as, without gradient.
        preferences: which fills were chosen over which.
        sampled_S: how many tokens of each fill were drawn; likelihood is a token's.
        config: how preferences bind.

    """
    moved_S = policy_S - reference_S
    margin_C = config.beta * (moved_S[preferences.chosen_C] - moved_S[preferences.rejected_C])
    smoothed_C = (1 - config.smoothing) * F.logsigmoid(margin_C) + config.smoothing * F.logsigmoid(-margin_C)
    preference = -(smoothed_C * preferences.weight_C).sum()
    nats_S = -policy_S / sampled_S
    likelihood = (nats_S[preferences.chosen_C] * preferences.weight_C).sum()
    return DpoLoss(
        total=preference + config.likelihood * likelihood,
        preference=float(preference.detach()),
        likelihood=float(likelihood.detach()),
        accuracy=float(((margin_C.detach() > 0).float() * preferences.weight_C).sum()),
        margin=float((margin_C.detach() * preferences.weight_C).sum()),
    )


def repeat_noise(agreement_accuracy: float, *, most: float = 0.4) -> float:
    """Return the label smoothing that measured agreement asks for: how often the less likely side is chosen.

    `agreement_accuracy` is `report.Ceiling.accuracy`; NaN, where nothing was judged twice, asks for none. Half of all
    labels wrong would leave nothing to learn from, so no more than `most` is taken.
    """
    if agreement_accuracy != agreement_accuracy:
        return 0.0
    return min(most, max(0.0, 1 - agreement_accuracy))
