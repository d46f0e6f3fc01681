"""The training loop, as a generator: each `next` is one optimiser step.

It runs on one worker or many; with `world_size` > 1 torch.distributed must be initialised. With `parallel: ddp` every
worker holds the whole model, and the loop sums the gradients once a step. DistributedDataParallel changes its buckets
after its first step: a resumed run of more than two workers would add in another order and end with other weights. With
`parallel: fsdp` weights and optimizer are sharded (sharding.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from harmonixr_model.infill.metrics import LossSum
from harmonixr_model.training.schedule import learning_rate
from harmonixr_model.training.sharding import agree_on_weights, blocks_of, shard, sums_gradients_at, whole
from harmonixr_model.training.state import Run
from harmonixr_model.training.task import BatchT, Task, loss_sum


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How to optimise. `patience` counts validations without a better loss; 0 never stops early.

    `compiles` compiles the model's layers with torch.compile.
    """

    steps: int
    learning_rate: float = 2e-3
    warmup: int = 100
    floor: float = 0.05
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    seed: int = 0
    precision: str = "auto"
    validate_every: int = 500
    patience: int = 0
    loader_workers: int = 0
    compiles: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"


@dataclass(frozen=True, slots=True)
class FlopsEstimate(Generic[BatchT]):
    """The floating-point operations of a batch, and the peak of one worker per second."""

    flops: Callable[[BatchT], float]
    peak_flops: float


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """The metrics of one optimiser step. Losses are in nats per token; `tokens` counts those read so far.

    `flops_per_s` is what the model needs, over all workers and without padding; `mfu` is its share of `peak_flops`.
    Both are NaN without a FlopsEstimate.
    """

    step: int
    steps: int
    loss: float
    bits_per_note: float
    tokens: int
    tokens_per_s: float
    learning_rate: float
    gradient_norm: float
    eta_s: float
    validation: LossSum | None
    is_best: bool
    flops_per_s: float = math.nan
    peak_flops: float = math.nan

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation."""
        return self.flops_per_s / self.peak_flops


def new_run(model: nn.Module, config: LoopConfig) -> Run:
    """Return a new run with AdamW (Loshchilov & Hutter 2019), with weight decay on matrices only.

    With `parallel: fsdp` and torch.distributed, every worker calls this, and the model is sharded.
    """
    if config.compiles:
        for block in blocks_of(model):
            # By layer: all layers share one program, and one dynamic program serves all batch shapes.
            block.compile(dynamic=True)
    is_sharded = config.parallel == "fsdp" and dist.is_initialized()
    if is_sharded:
        shard(model)
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    # The unfused AdamW took 1.6 s a step on a CPU.
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,
    )
    return Run(model=model, optimizer=optimizer, is_sharded=is_sharded)


def train(
    run: Run,
    task: Task[BatchT],
    config: LoopConfig,
    *,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    flops_estimate: FlopsEstimate[BatchT] | None = None,
) -> Iterator[StepMetrics]:
    """Take optimiser steps until `config.steps` or early stopping, and yield after each; `run` can be saved then.

    All workers yield equally often and with the same numbers, so that a caller can synchronise them at each step.
    """
    if world_size > 1 and not run.is_sharded:
        agree_on_weights(run.model)
    began, steps_before = clock(), run.step
    tokens_before, validating_s, flops = run.tokens, 0.0, 0.0
    for batches in _stream(task, range(run.step, config.steps), workers=config.loader_workers):
        if run.is_stopped:
            return
        rate = learning_rate(
            run.step, steps=config.steps, peak=config.learning_rate, warmup=config.warmup, floor=config.floor
        )
        if flops_estimate is not None:
            flops += sum(map(flops_estimate.flops, batches))
        total, tokens_read, norm = _optimise(
            run, task, batches, rate, config=config, device=device, rank=rank, world_size=world_size
        )
        run.step += 1
        run.tokens += tokens_read
        elapsed_s = max(clock() - began - validating_s, 1e-9)
        validation = None
        if run.step % config.validate_every == 0 or run.step == config.steps:
            paused = clock()
            validation = _validate(run, task, config, device=device, world_size=world_size)
            run.note_validation(validation.loss, validation.bits_per_note, patience=config.patience)
            validating_s += clock() - paused
        yield StepMetrics(
            step=run.step,
            steps=config.steps,
            loss=total.loss,
            bits_per_note=total.bits_per_note,
            tokens=run.tokens,
            tokens_per_s=(run.tokens - tokens_before) / elapsed_s,
            learning_rate=rate,
            gradient_norm=norm,
            eta_s=(config.steps - run.step) * (clock() - began) / (run.step - steps_before),
            validation=validation,
            is_best=validation is not None and run.best_step == run.step,
            # All workers read equally many tokens a step.
            flops_per_s=math.nan if flops_estimate is None else world_size * flops / elapsed_s,
            peak_flops=math.nan if flops_estimate is None else world_size * flops_estimate.peak_flops,
        )


@torch.no_grad()
def _validate(run: Run, task: Task[BatchT], config: LoopConfig, *, device: torch.device, world_size: int) -> LossSum:
    """Sum the loss over every worker's validation batches, without dropout."""
    run.model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for batch, counts in _in_step(list(task.validation()), run, device):
        with autocast(config.precision, device):
            loss, counts_2 = task.loss(run.model, task.to(batch, device))
        sums += counts * torch.cat((loss.detach().reshape(1), counts_2)).double()
    run.model.train()
    return _gather(sums, world_size)


def _in_step(batches: Sequence[BatchT], run: Run, device: torch.device) -> Iterator[tuple[BatchT, int]]:
    """Yield each batch with 1. Sharded workers need equally many passes: further ones repeat a batch with 0."""
    passes = torch.tensor(len(batches), device=device)
    if run.is_sharded:
        dist.all_reduce(passes, op=dist.ReduceOp.MAX)
    for i in range(int(passes)):
        yield batches[min(i, len(batches) - 1)], int(i < len(batches))


def _optimise(
    run: Run,
    task: Task[BatchT],
    batches: Sequence[BatchT],
    rate: float,
    *,
    config: LoopConfig,
    device: torch.device,
    rank: int,
    world_size: int,
) -> tuple[LossSum, int, float]:
    """Accumulate this step's gradients over its micro-batches and apply them; return sums, tokens read, norm."""
    model = run.model
    model.train()
    # The seed of dropout depends on the step and the worker, so there is no random state to save.
    torch.manual_seed(int(np.random.SeedSequence((config.seed, run.step, rank)).generate_state(1, np.uint64)[0] >> 1))
    mine = torch.tensor([sum(map(task.weight, batches)), sum(map(task.tokens, batches))], device=device)
    if world_size > 1:
        dist.all_reduce(mine)
    weight, tokens_read = mine.tolist()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    passes = list(_in_step(batches, run, device))
    # FSDP averages over the workers, and the sum is needed.
    share = max(weight, 1) / (world_size if run.is_sharded else 1)
    for i, (batch, counts) in enumerate(passes):
        if run.is_sharded:
            sums_gradients_at(model, i == len(passes) - 1)
        with autocast(config.precision, device):
            loss, counts_2 = task.loss(model, task.to(batch, device))
        # The mean over the tokens of all workers.
        (counts * loss / share).backward()
        sums += counts * torch.cat((loss.detach().reshape(1), counts_2)).double()
    if world_size > 1 and not run.is_sharded:
        _sum_gradients(model)
    clipped = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    norm = float(whole(clipped) if run.is_sharded else clipped)
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient is not finite at step {run.step}: lower the learning rate")
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return _gather(sums, world_size), tokens_read, norm


def _gather(sums_3: Tensor, world_size: int) -> LossSum:
    if world_size > 1:
        dist.all_reduce(sums_3)
    return loss_sum(sums_3[0], sums_3[1:])


def _sum_gradients(model: nn.Module) -> None:
    """Sum the gradients of all workers as one flat vector: one message, always in the same order."""
    weights = list(model.parameters())
    flat = torch.cat([torch.zeros_like(w).flatten() if w.grad is None else w.grad.flatten() for w in weights])
    dist.all_reduce(flat)
    for weight, gradient in zip(weights, torch.split(flat, [w.numel() for w in weights]), strict=True):
        weight.grad = gradient.view_as(weight)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the autocast context of a precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bf16(precision, device))


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Return whether `precision` (auto, bf16, fp32) means bfloat16 on this device."""
    return precision == "bf16" or (precision == "auto" and is_bf16_quick(device))


def is_bf16_quick(device: torch.device) -> bool:
    """Return whether this device computes in bfloat16 natively."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


class _Steps(Dataset[Sequence[BatchT]]):
    """A task's batches by step, so that loader processes can prepare them in advance."""

    def __init__(self, task: Task[BatchT]) -> None:
        self.task = task

    def __getitem__(self, step: int) -> Sequence[BatchT]:
        return self.task.batches(step)


def _as_is(batches: Sequence[BatchT]) -> Sequence[BatchT]:
    return batches


def _stream(task: Task[BatchT], steps: range, *, workers: int) -> Iterator[Sequence[BatchT]]:
    loader: DataLoader[Sequence[BatchT]] = DataLoader(
        _Steps(task),
        sampler=steps,
        batch_size=None,
        collate_fn=_as_is,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # the loader must not advance the global generator
    )
    return iter(loader)
