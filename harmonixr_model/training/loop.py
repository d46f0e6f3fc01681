"""The training loop, as a generator: each `next` is one optimiser step. Knows no Ray, no files and no music.

Runs on one worker or many: with `world_size` > 1 torch.distributed must be up. With `parallel: ddp` every worker holds
the whole model, and gradients are summed here, once a step, rather than by DistributedDataParallel: that one regroups
its buckets after its first step, so that a resumed run of more than two workers would add in another order than the
uninterrupted one, and end with other weights. With `parallel: fsdp` weights and optimizer are sharded (sharding.py).
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
from harmonixr_model.training.task import BatchT, Task, nats


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How to optimise. `patience` counts validations without a better loss, 0 never stops early.

    With `compiles` the model's layers go through torch.compile; `parallel` says what several workers share.
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
    """How much arithmetic a batch is, and how much one worker could do in a second."""

    flops: Callable[[BatchT], float]
    peak_flops: float


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """Where the run stands after one optimiser step; losses in nats a token, `tokens` as read by the model.

    `flops_per_s` of all workers is what the model needs (padding left out), `mfu` its share of what the workers could
    do, `peak_flops`; not a number where the caller did not say (see FlopsEstimate).
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
    """Begin: AdamW (Loshchilov & Hutter 2019), decay on matrices alone, the fused kernel.

    With `parallel: fsdp` and torch.distributed up, every worker calls this, and the model is spread over them.
    """
    if config.compiles:
        for block in blocks_of(model):
            # Layer by layer: all layers are one program. Batches differ in shape, one program serves them all.
            block.compile(dynamic=True)
    is_sharded = config.parallel == "fsdp" and dist.is_initialized()
    if is_sharded:
        shard(model)
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    # The unfused AdamW was seen to take 1.6 s a step on a CPU.
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
    """Take optimiser steps until `config.steps` or early stopping, yielding after each; `run` may be saved then.

    Every worker yields equally often and with the same numbers, so that the caller may meet the others at each step.
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
            # Workers read equally many tokens a step: this one's arithmetic stands for all.
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
    """Yield each batch with 1; where weights are gathered from others, as often as they do: repeats come with 0."""
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
    # Dropout's stream is keyed like the data's: nothing to save, and each worker has its own.
    torch.manual_seed(int(np.random.SeedSequence((config.seed, run.step, rank)).generate_state(1, np.uint64)[0] >> 1))
    mine = torch.tensor([sum(map(task.weight, batches)), sum(map(task.tokens, batches))], device=device)
    if world_size > 1:
        dist.all_reduce(mine)
    weight, tokens_read = mine.tolist()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    passes = list(_in_step(batches, run, device))
    # FSDP takes the mean over workers where their sum is wanted.
    share = max(weight, 1) / (world_size if run.is_sharded else 1)
    for i, (batch, counts) in enumerate(passes):
        if run.is_sharded:
            sums_gradients_at(model, i == len(passes) - 1)
        with autocast(config.precision, device):
            loss, counts_2 = task.loss(model, task.to(batch, device))
        # A mean over all workers' tokens of this step, however they are split.
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
    return nats(sums_3[0], sums_3[1:])


def _sum_gradients(model: nn.Module) -> None:
    """Add every worker's gradients, as one flat vector: one message, always in the same order."""
    weights = list(model.parameters())
    flat = torch.cat([torch.zeros_like(w).flatten() if w.grad is None else w.grad.flatten() for w in weights])
    dist.all_reduce(flat)
    for weight, gradient in zip(weights, torch.split(flat, [w.numel() for w in weights]), strict=True):
        weight.grad = gradient.view_as(weight)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where `precision` says so."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bf16(precision, device))


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Say whether `precision` (auto, bf16, fp32) means bfloat16 on this device."""
    return precision == "bf16" or (precision == "auto" and is_bf16_quick(device))


def is_bf16_quick(device: torch.device) -> bool:
    """Say whether this device has arithmetic for bfloat16, rather than emulating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


class _Steps(Dataset[Sequence[BatchT]]):
    """A task's batches, indexed by step, so that loader processes can prepare them ahead of time."""

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
        generator=torch.Generator(),  # its own, so that the loader leaves the global stream alone
    )
    return iter(loader)
