"""Direct preference optimisation of an infill model on judged gaps.

The loss is on fill tokens, under the grammar's mask. The reference is the initial model.
"""

# S fills of a gap

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.infill.packed import PackedFills, log_probabilities
from harmonixr_model.preference.dpo import DpoConfig, DpoLoss, Preferences, dpo_loss
from harmonixr_model.training.schedule import learning_rate


@dataclass(frozen=True, slots=True)
class JudgedGap:
    """A gap's fills and the preferences among them; `piece_id` is the same for gaps of one piece."""

    fills: PackedFills
    preferences: Preferences
    piece_id: str


@dataclass(frozen=True, slots=True)
class DpoTraining:
    """How to train: epochs over all gaps, gaps a step, AdamW's learning rate and warm-up, and the loss."""

    epochs: int = 4
    gaps_per_step: int = 4
    learning_rate: float = 1e-4
    warmup: int = 10
    clip: float = 1.0
    seed: int = 0
    loss: DpoConfig = field(default_factory=DpoConfig)


@dataclass(frozen=True, slots=True)
class DpoMetrics:
    """Averages over gaps: preference loss, nats per sampled token of chosen fills, and the share of correct pairs.

    `drift` is how much less likely the judged fills became, in nats per token: a cheap estimate of the change.
    """

    preference: float
    likelihood: float
    accuracy: float
    margin: float
    drift: float


@dataclass(frozen=True, slots=True)
class DpoStep:
    """One step. `held_out` is set at the end of an epoch; `best` marks the lowest held-out preference loss so far."""

    step: int
    steps: int
    epoch: int
    train: DpoMetrics
    held_out: DpoMetrics | None = None
    best: bool = False


def train_dpo(
    model: InfillTransformer,
    train: Sequence[JudgedGap],
    *,
    held_out: Sequence[JudgedGap],
    config: DpoTraining,
    rank: int = 0,
    world: int = 1,
) -> Iterator[DpoStep]:
    """Train `model` in place, yielding after each step; at the end it holds the best epoch's weights.

    The ranks share an epoch's gaps and average their gradients; every rank yields equally often. Several ranks need
    torch.distributed.
    """
    model.eval()  # dropout would make policy and reference differ before any training
    reference = [_reference(model, gap) for gap in train]
    reference_held_out = [_reference(model, gap) for gap in held_out]
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    per_epoch = -(-len(train) // (config.gaps_per_step * world))
    steps = per_epoch * config.epochs
    best, best_state = float("inf"), _copy(model)
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((config.seed, epoch)).permutation(len(train))
        first = (place * world + rank) * config.gaps_per_step
        chosen = [int(order[(first + k) % len(train)]) for k in range(config.gaps_per_step)]
        optimizer.param_groups[0]["lr"] = learning_rate(
            step, steps=steps, peak=config.learning_rate, warmup=config.warmup, floor=0.1
        )
        metrics = _step(model, optimizer, [(train[i], reference[i]) for i in chosen], config, world=world)
        if place + 1 < per_epoch:
            yield DpoStep(step, steps, epoch, metrics)
            continue
        measured = measure(model, held_out or train, reference_held_out or reference, config=config.loss)
        is_best = measured.preference < best
        if is_best:
            best, best_state = measured.preference, _copy(model)
        yield DpoStep(step, steps, epoch, metrics, measured, is_best)
    model.load_state_dict(best_state)


@torch.no_grad()
def measure(
    model: InfillTransformer, gaps: Sequence[JudgedGap], reference: Sequence[Tensor], *, config: DpoConfig
) -> DpoMetrics:
    """Return the averages over `gaps`; `reference` is `log_probabilities` of each under the reference."""
    rows = []
    for gap, reference_S in zip(gaps, reference, strict=True):
        policy_S = log_probabilities(model, gap.fills)
        rows.append((_loss(policy_S, reference_S, gap, config), _drift(policy_S, reference_S, gap)))
    return _metrics(rows)


def _step(
    model: InfillTransformer,
    optimizer: torch.optim.Optimizer,
    gaps: Sequence[tuple[JudgedGap, Tensor]],
    config: DpoTraining,
    *,
    world: int,
) -> DpoMetrics:
    optimizer.zero_grad(set_to_none=True)
    rows = []
    for gap, reference_S in gaps:
        policy_S = log_probabilities(model, gap.fills)
        loss = _loss(policy_S, reference_S, gap, config.loss)
        (loss.total / len(gaps)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        rows.append((loss, _drift(policy_S.detach(), reference_S, gap)))
    if world > 1:
        _average_gradients(model, world)
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    optimizer.step()
    return _metrics(rows)


def _average_gradients(model: InfillTransformer, world: int) -> None:
    """Average gradients over the ranks."""
    import torch.distributed as dist

    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= world


def _loss(policy_S: Tensor, reference_S: Tensor, gap: JudgedGap, config: DpoConfig) -> DpoLoss:
    return dpo_loss(policy_S, reference_S, gap.preferences, sampled_S=gap.fills.sampled_S, config=config)


def _drift(policy_S: Tensor, reference_S: Tensor, gap: JudgedGap) -> float:
    return float(((reference_S - policy_S) / gap.fills.sampled_S).mean())


@torch.no_grad()
def _reference(model: InfillTransformer, gap: JudgedGap) -> Tensor:
    return log_probabilities(model, gap.fills)


def _metrics(rows: Sequence[tuple[DpoLoss, float]]) -> DpoMetrics:
    losses = [loss for loss, _ in rows]
    return DpoMetrics(
        preference=_mean([loss.preference for loss in losses]),
        likelihood=_mean([loss.likelihood for loss in losses]),
        accuracy=_mean([loss.accuracy for loss in losses]),
        margin=_mean([loss.margin for loss in losses]),
        drift=_mean([drift for _, drift in rows]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _copy(model: InfillTransformer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
