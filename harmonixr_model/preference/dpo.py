"""The loss of direct preference optimisation (DPO), and the preferences among one gap's fills.

Rafailov et al. (2023), "Direct Preference Optimization", eq. 7, with two additions: label smoothing by the listeners'
measured disagreement (Mitchell 2023, "A note on DPO with noisy preferences", cDPO), and the likelihood of chosen fills
(Pang et al. 2024, "Iterative Reasoning Preference Optimization", eq. 2), which DPO alone may lower.
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
    """The weights of the loss, named as in TRL.

    `beta` is the strength of the reference, `label_smoothing` the share of labels assumed wrong, `rpo_alpha` the weight
    of the chosen fills' negative log-likelihood per token.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    rpo_alpha: float = 0.1


@dataclass(frozen=True, slots=True)
class DpoLoss:
    """The loss of one gap and its parts, the share of correctly ranked pairs, and the mean reward margin."""

    total: Tensor
    preference: float
    likelihood: float
    accuracy: float
    margin: float


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences among one gap's fills: `chosen` was preferred to `rejected`, both indices of fills.

    `weight` sums to 1, and each pair of fills weighs the same however often it was judged.
    """

    chosen_C: Tensor
    rejected_C: Tensor
    weight_C: Tensor


def preferences_of(pairs: Sequence[RatedPair], rows: Sequence[int]) -> Preferences | None:
    """Return the preferences among the fills `rows`; None where all comparisons are ties."""
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
        chosen_C=torch.tensor([chosen for chosen, _ in votes]),
        rejected_C=torch.tensor([rejected for _, rejected in votes]),
        weight_C=weight / weight.sum(),
    )


def dpo_loss(
    policy_S: Tensor, reference_S: Tensor, preferences: Preferences, *, sampled_S: Tensor, config: DpoConfig
) -> DpoLoss:
    """Return the loss of one gap.

    Args:
        policy_S: log probability of each fill under the trained model.
        reference_S: the same under the reference model, without gradient.
        preferences: the preferences among the fills.
        sampled_S: the number of sampled tokens of each fill.
        config: the weights of the loss.

    """
    log_ratio_S = policy_S - reference_S
    margin_C = config.beta * (log_ratio_S[preferences.chosen_C] - log_ratio_S[preferences.rejected_C])
    smoothed_C = (1 - config.label_smoothing) * F.logsigmoid(margin_C) + config.label_smoothing * F.logsigmoid(
        -margin_C
    )
    preference = -(smoothed_C * preferences.weight_C).sum()
    nats_S = -policy_S / sampled_S
    likelihood = (nats_S[preferences.chosen_C] * preferences.weight_C).sum()
    return DpoLoss(
        total=preference + config.rpo_alpha * likelihood,
        preference=float(preference.detach()),
        likelihood=float(likelihood.detach()),
        accuracy=float(((margin_C.detach() > 0).float() * preferences.weight_C).sum()),
        margin=float((margin_C.detach() * preferences.weight_C).sum()),
    )


def measured_label_smoothing(agreement_accuracy: float, *, maximum: float = 0.4) -> float:
    """Return the label smoothing for a measured agreement: the probability of choosing the less likely side.

    `agreement_accuracy` is `report.Ceiling.accuracy`; NaN, where no pair was judged twice, gives 0. With half of all
    labels wrong there is nothing to learn, so the result is at most `maximum`.
    """
    if agreement_accuracy != agreement_accuracy:
        return 0.0
    return min(maximum, max(0.0, 1 - agreement_accuracy))
