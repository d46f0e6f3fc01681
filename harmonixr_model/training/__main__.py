"""Train an infill model on one machine without Ray: `python -m harmonixr_model.training --corpus DIR --out DIR …`.

The same command resumes an interrupted run. It writes OUT/model.safetensors.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.infill.config import SIZES, sized
from harmonixr_model.training.infill_task import BatchConfig
from harmonixr_model.training.local_run import LocalJob, run_local
from harmonixr_model.training.loop import LoopConfig
from harmonixr_model.training.report import progress_line


def parse(argv: Sequence[str] | None = None) -> LocalJob:
    """Read the command line into a job."""
    parser = argparse.ArgumentParser(prog="python -m harmonixr_model.training", description=__doc__)
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="a folder written by `harmonixr ingest`")
    add("--out", type=Path, required=True, help="where state, metrics and the checkpoint go")
    add("--size", choices=SIZES, default="nano")
    add("--steps", type=int, required=True, help="optimiser steps")
    add("--context", type=int, nargs="+", default=[512, 1024], help="context lengths; the run is split evenly")
    add("--batch-tokens", type=int, default=16_384, help="tokens a step")
    add("--micro-tokens", type=int, default=4_096, help="tokens through the model at once, padding included")
    add("--lr", type=float, default=2e-3)
    add("--warmup", type=int, default=100)
    add("--weight-decay", type=float, default=0.1)
    add("--dropout", type=float, default=0.0)
    add("--validate-every", type=int, default=250)
    add("--validation-examples", type=int, default=256)
    add("--patience", type=int, default=0, help="stop after so many validations without improvement; 0: never")
    add("--save-every-min", type=float, default=3.0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    add("--compile", action="store_true", help="put the model's layers through torch.compile")
    add("--loader-workers", type=int, default=0, help="processes that prepare examples")
    add("--seed", type=int, default=0)
    add("--songs-first", type=float, default=0.0, metavar="SHARE", help="of the steps, to read whole songs first")
    add("--start-from", type=Path, help="a checkpoint of the same size to begin with, in place of weights of chance")
    args = parser.parse_args(argv)
    return LocalJob(
        corpus=args.corpus,
        out=args.out,
        model=sized(args.size, dropout=args.dropout, max_length=max(args.context)),
        loop=LoopConfig(
            steps=args.steps,
            learning_rate=args.lr,
            warmup=args.warmup,
            weight_decay=args.weight_decay,
            validate_every=args.validate_every,
            patience=args.patience,
            precision=args.precision,
            loader_workers=args.loader_workers,
            compiles=args.compile,
            seed=args.seed,
        ),
        context=tuple(sorted(args.context)),
        batch=BatchConfig(
            batch_tokens=args.batch_tokens,
            micro_tokens=args.micro_tokens,
            validation_examples=args.validation_examples,
            seed=args.seed,
        ),
        save_every_s=60 * args.save_every_min,
        device=args.device,
        start_from=args.start_from,
        songs_first=args.songs_first,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return 0, or 2 with one sentence on bad input, or 130 when interrupted (the state is saved)."""
    job = parse(argv)
    if not 0 <= job.songs_first < 1:
        sys.stderr.write("--songs-first is a share of the steps: give 0 up to less than 1\n")
        return 2
    if job.start_from is not None and not job.start_from.is_file():
        sys.stderr.write(f"there is no checkpoint {job.start_from}\n")
        return 2
    interrupted = threading.Event()
    # Between two steps the state is whole, so a signal waits for the end of the step.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: interrupted.set())
    try:
        for progress in run_local(job, is_interrupted=interrupted.is_set):
            # A line with a validation stays; the others are written over.
            end = "\n" if progress.validation is not None else ""
            sys.stderr.write(f"\r\x1b[K{progress_line(progress)}{end}")
            sys.stderr.flush()
    except HarmonixrError as error:
        sys.stderr.write(f"\n{error}\n")
        return 2
    if interrupted.is_set():
        sys.stderr.write("\ninterrupted; the same command resumes from here\n")
        return 130
    sys.stderr.write(f"wrote {job.checkpoint}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
