"""Fit reward heads to judged pairs with precomputed features."""

# S sequences, F pooled features, C comparisons, H heads

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harmonixr_model.preference.loss import bootstrap_weights, outcome_log_probability, preference_loss
from harmonixr_model.preference.metrics import RewardMetrics, evaluate_rewards
from harmonixr_model.preference.model import RewardHeads
from harmonixr_model.preference.pairs import PairBatch, RatedPair, context_batches


@dataclass(frozen=True, slots=True)
class RewardTraining:
    """How to fit: epochs over all contexts, contexts a batch, Adam's learning rate, early stopping on the log-loss.

    `penalty` is on the squared weights of a head: a Gaussian prior, which dominates with only hundreds of fills.
    """

    epochs: int = 80
    contexts_per_batch: int = 16
    learning_rate: float = 2e-2
    penalty: float = 1e-2
    patience: int = 15
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RewardEpoch:
    """One epoch's training loss and held-out metrics; `best` marks the best so far."""

    epoch: int
    loss: float
    held_out: RewardMetrics
    best: bool


def fit_rewards(
    heads: RewardHeads,
    features_SF: Tensor,
    *,
    pairs: Sequence[RatedPair],
    train: Sequence[int],
    valid: Sequence[int],
    config: RewardTraining,
    rank: int = 0,
    world: int = 1,
    wrap: Callable[[torch.nn.Module], torch.nn.Module] = lambda module: module,
) -> Iterator[RewardEpoch]:
    """Fit `heads` in place, yielding once an epoch; at the end they hold the best epoch's weights.

    Args:
        heads: fresh heads; their scale is set from the training features here.
        features_SF: pooled trunk features of every distinct fill.
        pairs: all comparisons; `train` and `valid` index into them.
        config: the schedule.
        rank: this worker's place among `world` workers, which share each epoch's contexts.
        wrap: makes the module data-parallel, for instance DistributedDataParallel.

    """
    context_of = {row: pairs[i].context_id for i in train for row in (pairs[i].first, pairs[i].second)}
    used, names = sorted(context_of), sorted(set(context_of.values()))
    heads.fit_scale(features_SF[used], torch.tensor([names.index(context_of[row]) for row in used]))
    scorer = wrap(_Scorer(heads))
    optimizer = torch.optim.Adam(heads.parameters(), lr=config.learning_rate)
    weights_CH = bootstrap_weights([pair.piece_id for pair in pairs], heads.config.heads, seed=config.seed)
    best_loss, best_state, waited = float("inf"), _copy(heads), 0
    for epoch in range(config.epochs):
        losses = []
        for batch in context_batches(
            pairs, train, contexts=config.contexts_per_batch, seed=config.seed, epoch=epoch, rank=rank, world=world
        ):
            loss = _batch_loss(scorer, features_SF, batch, weights_CH) + config.penalty * _size(heads)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            losses.append(loss.item())
        held_out = score_pairs(heads, features_SF, pairs=[pairs[i] for i in (valid or train)])
        better = held_out.log_loss < best_loss
        if better:
            best_loss, best_state, waited = held_out.log_loss, _copy(heads), 0
        yield RewardEpoch(epoch, sum(losses) / len(losses), held_out, better)
        waited += not better
        if waited > config.patience:
            break
    heads.load_state_dict(best_state)
    heads.eval()


@torch.no_grad()
def score_pairs(heads: RewardHeads, features_SF: Tensor, *, pairs: Sequence[RatedPair]) -> RewardMetrics:
    """Measure the heads, dropout off, on `pairs`."""
    heads.eval()
    reward_SH = heads(features_SF)
    outcome_C = torch.tensor([pair.outcome for pair in pairs], dtype=torch.long)
    first = torch.tensor([pair.first for pair in pairs], dtype=torch.long)
    second = torch.tensor([pair.second for pair in pairs], dtype=torch.long)
    return evaluate_rewards(
        reward_SH[first],
        reward_SH[second],
        outcome_C,
        log_tie=heads.log_tie.detach(),
        piece_ids=[pair.piece_id for pair in pairs],
    )


class _Scorer(torch.nn.Module):
    """Rewards and the tie parameter from one forward call: DistributedDataParallel sees every parameter used."""

    def __init__(self, heads: RewardHeads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, first_CF: Tensor, second_CF: Tensor, outcome_C: Tensor) -> Tensor:
        """Return the log probability of each outcome under each head, C × H."""
        return outcome_log_probability(self.heads(first_CF), self.heads(second_CF), outcome_C, self.heads.log_tie)


def _batch_loss(scorer: torch.nn.Module, features_SF: Tensor, batch: PairBatch, weights_CH: Tensor) -> Tensor:
    log_probability_CH = scorer(features_SF[batch.first_C], features_SF[batch.second_C], batch.outcome_C)
    return preference_loss(log_probability_CH, context_C=batch.context_C, weight_CH=weights_CH[batch.index_C])


def _size(heads: RewardHeads) -> Tensor:
    """Return the squared weights of a head, averaged over heads."""
    return (heads.linear_HI.square().sum() + heads.outer_HW.square().sum()) / heads.config.heads


def _copy(heads: RewardHeads) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in heads.state_dict().items()}
