"""Speed of training with two workers and with compilation, equality of losses, and the padding of batches.

    python benchmarks/training.py [--corpus CORPUS] [--size nano] [--steps 8] [--rounds 3] [--compile] [--out FILE.md]

Workers are processes of one thread each on this machine with gloo, as in a job of `harmonixr train` without GPUs.
Arrangements are timed in turns; results are medians over the rounds in wall time and in CPU time, which other processes
affect less. The scaling efficiency is the speed of two workers divided by twice the speed of one. Without --corpus,
songs are composed. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from harmonixr_model.data.collate import Batch
from harmonixr_model.infill.config import sized
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_model.training.infill_task import BatchConfig, InfillTask, bucket, corpus_task
from harmonixr_model.training.local_run import estimate_flops
from harmonixr_model.training.loop import LoopConfig, StepMetrics, new_run, train

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The workers of a step and their kind of parallelism."""

    name: str
    workers: int
    parallel: Literal["ddp", "fsdp"] = "ddp"
    compiles: bool = False


ARRANGEMENTS = (
    Arrangement("1 worker", 1),
    Arrangement("2 workers, ddp", 2),
    Arrangement("2 workers, fsdp", 2, "fsdp"),
)
COMPILED = Arrangement("1 worker, compiled", 1, compiles=True)


class SameRows(InfillTask):
    """A task whose workers divide the examples of a single worker by length, so that the losses are equal."""

    def batches(self, step: int) -> list[Batch]:
        """Return this worker's rows of the step."""
        single = InfillTask(self.stages, self.held_out, self.config, steps=self.steps)
        rows = sorted(single.examples(step), key=lambda example: -len(example.tokens))
        return self._collate(rows[self.rank :: self.world_size])


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a worker."""

    corpus: Path
    folder: Path
    size: str
    context: int
    steps: int
    batch: BatchConfig
    precision: str
    arrangement: Arrangement
    has_same_rows: bool

    def loop(self) -> LoopConfig:
        """Return the training loop. The first step, which compiles, and the last, which validates, are not timed."""
        return LoopConfig(
            steps=self.steps + 2,
            warmup=1,
            validate_every=self.steps + 2,
            precision=self.precision,
            compiles=self.arrangement.compiles,
            parallel=self.arrangement.parallel,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Time the arrangements in turns and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="a folder written by `harmonixr ingest`")
    parser.add_argument("--size", default="nano")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8, help="timed steps in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--micro-tokens", type=int, default=2048)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--compile", action="store_true", help="also time a compiled model; compilation takes minutes")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = args.corpus or write_composed_corpus(Path(scratch) / "corpus", pieces=24)
        batch = BatchConfig(args.batch_tokens, args.micro_tokens, validation_examples=2)
        arrangements = (*ARRANGEMENTS, COMPILED) if args.compile else ARRANGEMENTS

        def plan(arrangement: Arrangement, precision: str, *, has_same_rows: bool) -> Plan:
            folder = Path(tempfile.mkdtemp(dir=scratch))
            return Plan(
                corpus, folder, args.size, args.context, args.steps, batch, precision, arrangement, has_same_rows
            )

        timed: dict[str, list[dict[str, Any]]] = {arrangement.name: [] for arrangement in arrangements}
        for turn in range(args.rounds):
            for arrangement in arrangements:
                measured = run(plan(arrangement, args.precision, has_same_rows=False))
                timed[arrangement.name].append(measured)
                sys.stderr.write(f"round {turn + 1}, {arrangement.name}: {measured['tokens_per_s']:,.0f} tokens/s\n")
        losses = {a.name: run(plan(a, "fp32", has_same_rows=True))["losses"] for a in ARRANGEMENTS}
        padding = padding_table(corpus, args.context, batch)
    text = "\n\n".join([pace_table(arrangements, timed), loss_table(losses), padding]) + "\n"
    sys.stdout.write(text)
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")
    return 0


def run(plan: Plan) -> dict[str, Any]:
    """Train in new processes; return the measurements of the first one, with the CPU seconds of all."""
    start_processes(work, args=(plan,), nprocs=plan.arrangement.workers, start_method="fork")  # type: ignore[no-untyped-call]
    each = [torch.load(plan.folder / f"{rank}.pt", weights_only=True) for rank in range(plan.arrangement.workers)]
    return {**each[0], "processor_s": sum(measured["processor_s"] for measured in each)}


def work(rank: int, plan: Plan) -> None:
    """Train as one of the workers and save its measurements."""
    torch.set_num_threads(1)
    workers = plan.arrangement.workers
    dist.init_process_group("gloo", init_method=f"file://{plan.folder}/meet", rank=rank, world_size=workers)
    kind = SameRows if plan.has_same_rows else InfillTask
    opened = corpus_task(plan.corpus, plan.batch, context=(plan.context,), steps=plan.steps + 2)
    task = kind(opened.stages, opened.held_out, plan.batch, steps=plan.steps + 2, rank=rank, world_size=workers)
    torch.manual_seed(0)
    model = sized(plan.size, dropout=0.0, max_length=plan.context)
    loop = plan.loop()
    run = new_run(InfillTransformer(model), loop)
    flops_estimate = None if plan.has_same_rows else estimate_flops(model, loop, CPU)
    recorded: list[StepMetrics] = []
    started_s = processor_s = 0.0
    steps = train(run, task, loop, device=CPU, rank=rank, world_size=workers, flops_estimate=flops_estimate)
    for progress in itertools.islice(steps, plan.steps + 1):
        recorded.append(progress)
        if len(recorded) == 1:
            started_s, processor_s = time.perf_counter(), time.process_time()
    taken_s, processor_s = time.perf_counter() - started_s, time.process_time() - processor_s
    tokens = recorded[-1].tokens - recorded[0].tokens
    measured = {
        "tokens": tokens,
        "tokens_per_s": tokens / taken_s,
        "processor_s": processor_s,
        # The loop's own speed includes the first step.
        "mfu": recorded[-1].mfu * tokens / taken_s / recorded[-1].tokens_per_s,
        "peak_flops": recorded[-1].peak_flops,
        "losses": [progress.loss for progress in recorded],
        "held": sum(weight.to_local().numel() if run.is_sharded else weight.numel() for weight in _weights(run.model)),
    }
    torch.save(measured, plan.folder / f"{rank}.pt")
    dist.destroy_process_group()


def _weights(model: torch.nn.Module) -> Iterator[Any]:
    yield from model.parameters()


def padding_table(corpus: Path, context: int, batch: BatchConfig) -> str:
    """Return the share of tokens that are not padding, with batches by length and in the order of examples."""
    task = corpus_task(corpus, batch, context=(context,), steps=1)
    lengths = [len(example.tokens) for step in range(4) for example in task.examples(step)]
    longest_rows = max(batch.micro_tokens // context, 1)
    in_order = [
        list(range(first, min(first + longest_rows, len(lengths)))) for first in range(0, len(lengths), longest_rows)
    ]
    rows = ["| batches | share of tokens that are not padding |", "|---|---|"]
    for name, groups in (("by length", bucket(lengths, max_tokens=batch.micro_tokens)), ("in order", in_order)):
        computed = sum(len(group) * max(lengths[index] for index in group) for group in groups)
        rows.append(f"| {name} | {sum(lengths) / computed:.1%} |")
    return "\n".join(rows)


def pace_table(arrangements: Sequence[Arrangement], timed: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of speed, efficiency relative to one worker, MFU and memory."""

    def median(name: str, key: str) -> float:
        return float(statistics.median(measured[key] for measured in timed[name]))

    def by_processor(name: str) -> float:
        return float(statistics.median(measured["tokens"] / measured["processor_s"] for measured in timed[name]))

    first = arrangements[0].name
    rows = [
        "| | tokens/s | efficiency | tokens per CPU second | efficiency by CPU time | MFU | assumed peak, GFLOP/s "
        "| weights per worker |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arrangement in arrangements:
        name = arrangement.name
        speed, cpu_speed = median(name, "tokens_per_s"), by_processor(name)
        rows.append(
            f"| {name} | {speed:,.0f} | {speed / median(first, 'tokens_per_s') / arrangement.workers:.2f} "
            f"| {cpu_speed:,.0f} | {cpu_speed / by_processor(first):.2f} | {median(name, 'mfu'):.0%} "
            f"| {median(name, 'peak_flops') / 1e9:,.0f} | {median(name, 'held') / 1e6:.2f} M |"
        )
    return "\n".join(rows)


def loss_table(losses: dict[str, list[float]]) -> str:
    """Return the table of losses on the same examples in fp32, with the largest difference from one worker."""
    first, *others = losses
    steps = range(len(losses[first]))
    rows = ["| step | " + " | ".join(losses) + " |", "|---" * (len(losses) + 1) + "|"]
    rows += ["| " + " | ".join([str(i + 1), *(f"{values[i]:.6f}" for values in losses.values())]) + " |" for i in steps]
    gaps = [max(abs(a - b) for a, b in zip(losses[first], losses[name], strict=True)) for name in others]
    rows.append("| largest difference | – | " + " | ".join(f"{gap:.1e}" for gap in gaps) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    raise SystemExit(main())
