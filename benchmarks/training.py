"""What a second worker gains, that it changes no loss, what compiling gains, how full batches are.

    python benchmarks/training.py [--corpus CORPUS] [--size nano] [--steps 8] [--rounds 3] [--compile] [--out FILE.md]

Workers are processes of one thread each on this machine, joined by gloo, as a job of `harmonixr train` without GPUs.
Arrangements are timed in turns, and the medians over the rounds are told: in seconds of the clock, which a neighbour
spoils, and in seconds of the processor, which he spoils less. The scaling efficiency is the pace of two workers over
twice the pace of one. Without --corpus the songs are our composer's. Prints Markdown.
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
    """How many workers share a step, and how."""

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
    """A step's examples are those one worker draws, dealt out by length: then two workers' loss is one worker's."""

    def batches(self, step: int) -> list[Batch]:
        """Return this worker's rows of the step."""
        alone = InfillTask(self.stages, self.held_out, self.config, steps=self.steps)
        rows = sorted(alone.examples(step), key=lambda example: -len(example.tokens))
        return self._collate(rows[self.rank :: self.world_size])


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a worker needs to know."""

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
        """Return how the loop runs: the first step, which allocates and compiles, and the last, which validates, are
        not timed.
        """
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
    parser.add_argument("--steps", type=int, default=8, help="timed steps a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--micro-tokens", type=int, default=2048)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--compile", action="store_true", help="time a compiled model too: minutes of compiling")
    parser.add_argument("--out", type=Path, help="also write the tables here")
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
                said = run(plan(arrangement, args.precision, has_same_rows=False))
                timed[arrangement.name].append(said)
                sys.stderr.write(f"round {turn + 1}, {arrangement.name}: {said['tokens_per_s']:,.0f} tokens/s\n")
        losses = {a.name: run(plan(a, "fp32", has_same_rows=True))["losses"] for a in ARRANGEMENTS}
        fill = fullness(corpus, args.context, batch)
    text = "\n\n".join([pace_table(arrangements, timed), loss_table(losses), fill]) + "\n"
    sys.stdout.write(text)
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")
    return 0


def run(plan: Plan) -> dict[str, Any]:
    """Train in processes of their own, so that nothing is left over; return what the first one measured."""
    start_processes(work, args=(plan,), nprocs=plan.arrangement.workers, start_method="fork")  # type: ignore[no-untyped-call]
    each = [torch.load(plan.folder / f"{rank}.pt", weights_only=True) for rank in range(plan.arrangement.workers)]
    return {**each[0], "processor_s": sum(said["processor_s"] for said in each)}


def work(rank: int, plan: Plan) -> None:
    """Train as one of the workers and write down how it went."""
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
    told: list[StepMetrics] = []
    began_s = processor_s = 0.0
    steps = train(run, task, loop, device=CPU, rank=rank, world_size=workers, flops_estimate=flops_estimate)
    for progress in itertools.islice(steps, plan.steps + 1):
        told.append(progress)
        if len(told) == 1:
            began_s, processor_s = time.perf_counter(), time.process_time()
    taken_s, processor_s = time.perf_counter() - began_s, time.process_time() - processor_s
    tokens = told[-1].tokens - told[0].tokens
    said = {
        "tokens": tokens,
        "tokens_per_s": tokens / taken_s,
        "processor_s": processor_s,
        # The loop's own pace counts the first step too.
        "mfu": told[-1].mfu * tokens / taken_s / told[-1].tokens_per_s,
        "peak_flops": told[-1].peak_flops,
        "losses": [progress.loss for progress in told],
        "held": sum(weight.to_local().numel() if run.is_sharded else weight.numel() for weight in _weights(run.model)),
    }
    torch.save(said, plan.folder / f"{rank}.pt")
    dist.destroy_process_group()


def _weights(model: torch.nn.Module) -> Iterator[Any]:
    yield from model.parameters()


def fullness(corpus: Path, context: int, batch: BatchConfig) -> str:
    """Compare how many of a batch's tokens are music, with batches by length and in the order examples come."""
    task = corpus_task(corpus, batch, context=(context,), steps=1)
    lengths = [len(example.tokens) for step in range(4) for example in task.examples(step)]
    longest_rows = max(batch.micro_tokens // context, 1)
    in_order = [
        list(range(first, min(first + longest_rows, len(lengths)))) for first in range(0, len(lengths), longest_rows)
    ]
    rows = ["| batches | music among the tokens computed |", "|---|---|"]
    for name, groups in (("by length", bucket(lengths, max_tokens=batch.micro_tokens)), ("as they come", in_order)):
        computed = sum(len(group) * max(lengths[index] for index in group) for group in groups)
        rows.append(f"| {name} | {sum(lengths) / computed:.1%} |")
    return "\n".join(rows)


def pace_table(arrangements: Sequence[Arrangement], timed: dict[str, list[dict[str, Any]]]) -> str:
    """Lay out pace, efficiency against one worker, MFU and memory."""

    def middle(name: str, key: str) -> float:
        return float(statistics.median(said[key] for said in timed[name]))

    def by_processor(name: str) -> float:
        return float(statistics.median(said["tokens"] / said["processor_s"] for said in timed[name]))

    first = arrangements[0].name
    rows = [
        "| | tokens/s | efficiency | tokens a processor's second | efficiency by it | MFU | peak assumed, GFLOP/s "
        "| weights a worker |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arrangement in arrangements:
        name = arrangement.name
        pace, quiet = middle(name, "tokens_per_s"), by_processor(name)
        rows.append(
            f"| {name} | {pace:,.0f} | {pace / middle(first, 'tokens_per_s') / arrangement.workers:.2f} "
            f"| {quiet:,.0f} | {quiet / by_processor(first):.2f} | {middle(name, 'mfu'):.0%} "
            f"| {middle(name, 'peak_flops') / 1e9:,.0f} | {middle(name, 'held') / 1e6:.2f} M |"
        )
    return "\n".join(rows)


def loss_table(losses: dict[str, list[float]]) -> str:
    """Lay out the loss of every step on the same examples, in fp32, and the largest difference from one worker."""
    first, *others = losses
    steps = range(len(losses[first]))
    rows = ["| step | " + " | ".join(losses) + " |", "|---" * (len(losses) + 1) + "|"]
    rows += ["| " + " | ".join([str(i + 1), *(f"{told[i]:.6f}" for told in losses.values())]) + " |" for i in steps]
    gaps = [max(abs(a - b) for a, b in zip(losses[first], losses[name], strict=True)) for name in others]
    rows.append("| largest difference | – | " + " | ".join(f"{gap:.1e}" for gap in gaps) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    raise SystemExit(main())
