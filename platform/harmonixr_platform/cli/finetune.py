"""`harmonixr finetune`: train a model further on a folder of music, and measure whether it improves."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.cli.arguments import add_model, model_file
from harmonixr_platform.cli.progress import progress_bar

if TYPE_CHECKING:
    from harmonixr_model.evaluation.report import Report

BEFORE, AFTER = "before", "after"
EPILOG = """
examples:
  harmonixr finetune my-songs --out tuned
  harmonixr finetune my-songs --out tuned --steps 600 --held-out 0.25
  harmonixr infill song.mid --bars 9-12 --model tuned/model.safetensors -o filled.mid
Twenty files are enough for a start; a few hundred are better. Some pieces are held out: training stops when their loss
no longer falls, and the table compares the model before and after on them. The same command continues an interrupted
run. Train only on music that you have the right to use.
"""


class FinetuneError(HarmonixrError):
    """The training cannot run with these arguments."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="MIDI files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for model, corpus and report")
    add_model(parser)
    parser.add_argument("--steps", type=int, default=240, metavar="N", help="at most N steps (default: 240)")
    parser.add_argument("--learning-rate", type=float, default=3e-4, metavar="R", help="peak (default: 0.0003)")
    parser.add_argument("--held-out", type=float, default=0.15, metavar="SHARE", help="of the pieces (default: 0.15)")
    parser.add_argument("--items", type=int, default=44, metavar="N", help="held-out gaps to measure (default: 44)")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Ingest, train, measure; return 0 when the held-out bits a note decrease, else 1."""
    if args.steps < 1 or args.items < 1 or not 0 < args.held_out < 1 or args.learning_rate <= 0:
        raise FinetuneError(
            "give at least 1 step and 1 item, a learning rate over 0, and a held-out share between 0 and 1"
        )
    from harmonixr_platform.cli.evaluation import write_report

    start_from, name = model_file(args.model)
    corpus = _ingest(args)
    tuned = _train(args, corpus, start_from)
    report = _compare(args, corpus, start_from, tuned)
    write_report(report, args.out)
    return _verdict(report, tuned, name=name)


def _ingest(args: argparse.Namespace) -> Path:
    from harmonixr_model.data.corpus import hold_out
    from harmonixr_platform.training.ingest_job import run as ingest

    corpus: Path = args.out / "corpus"
    summary = ingest(args.folders, corpus, uses_ray=False)
    splits = hold_out(corpus, share=args.held_out)
    rejected = sum(summary.rejected.values())
    print(
        f"{summary.pieces} pieces of {summary.files} files ({rejected} rejected, {summary.exact_duplicates} copies): "
        f"{splits['train']} to learn from, {splits['valid']} held out"
    )
    return corpus


def _train(args: argparse.Namespace, corpus: Path, start_from: Path) -> Path:
    from dataclasses import replace

    import torch

    from harmonixr_model.infill.checkpoint import read_info
    from harmonixr_model.training.infill_task import BatchConfig
    from harmonixr_model.training.local_run import LocalJob, run_local
    from harmonixr_model.training.loop import LoopConfig
    from harmonixr_platform.cli.train import training_bar

    config, _ = read_info(start_from)
    job = LocalJob(
        corpus=corpus,
        out=args.out,
        model=replace(config, dropout=0.1),
        # A model soon overfits a small corpus: validate often, stop after three validations without improvement.
        loop=LoopConfig(
            steps=args.steps,
            learning_rate=args.learning_rate,
            warmup=min(20, args.steps),
            validate_every=max(1, min(12, args.steps)),
            patience=3,
            seed=args.seed,
        ),
        batch=BatchConfig(batch_tokens=4096, micro_tokens=4096, validation_examples=32, seed=args.seed),
        context=(config.max_length,),
        save_every_s=60,
        device="cuda" if torch.cuda.is_available() else "cpu",
        start_from=start_from,
    )
    torch.set_num_threads(os.cpu_count() or 1)
    with training_bar() as show:
        for progress in run_local(job):
            show(progress)
    return job.checkpoint


def _compare(args: argparse.Namespace, corpus: Path, before: Path, after: Path) -> Report:
    from harmonixr_model.data.corpus import Corpus
    from harmonixr_model.engine.decoder import Decoder
    from harmonixr_model.engine.engine import Sampling
    from harmonixr_model.evaluation.protocol import evaluation_items
    from harmonixr_model.evaluation.report import evaluate
    from harmonixr_model.evaluation.systems import SampledFills, model_system
    from harmonixr_model.infill.checkpoint import load_checkpoint

    models = {name: load_checkpoint(path)[0] for name, path in ((BEFORE, before), (AFTER, after))}
    systems = [
        model_system(model, SampledFills(Decoder(model), 1, Sampling()), name=name) for name, model in models.items()
    ]
    items = list(evaluation_items(Corpus.open(corpus), split="valid", count=args.items, seed=args.seed))
    made: dict[str, Any] = {"gaps": len(items), "held-out pieces": len({item.piece_id for item in items})}
    with progress_bar("before and after", len(items), "gap") as bar:
        return evaluate(items, systems, made=made, progress=lambda _: bar.update())


def _verdict(report: Report, tuned: Path, *, name: str) -> int:
    from harmonixr_model.evaluation.likelihood import BITS

    before, after = report.value(BEFORE, BITS), report.value(AFTER, BITS)
    print(f"bits a note on held-out pieces: {before.value:.2f} before, {after.value:.2f} after")
    if after.value >= before.value:
        print(f"it did not help: keep the {name} model; more files, or fewer steps, may give a better one")
        return 1
    print(f"model: {tuned}")
    return 0
