"""`harmonixr evaluate`: measure a model on held-out music beside Markov chains and copied bars."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.cli.progress import progress_bar

if TYPE_CHECKING:
    from harmonixr_model.data.corpus import Corpus
    from harmonixr_model.evaluation.protocol import EvaluationItem
    from harmonixr_model.evaluation.report import Report
    from harmonixr_model.evaluation.systems import System
    from harmonixr_model.music.score import Score

SHIPPED = "shipped"
READINGS = "test_readings.log"
MANY_FILLS = 100  # from here on the compiled step earns back its compiler
EPILOG = """
examples:
  harmonixr evaluate --corpus corpus --out reports/shipped
  harmonixr evaluate --corpus corpus --model champion --items 110 --out reports/champion
  harmonixr evaluate --corpus corpus --model runs/nano/model.safetensors --shapes track-4 all-1 --out reports/nano
  harmonixr evaluate --corpus corpus --shapes track-4 --least-tracks 4 --by source role --out reports/bands
  harmonixr evaluate --corpus corpus --samples 4 --greedy --reward reward.safetensors --out reports/decoding
Shapes: track-1, -2, -4, -8 and all-1, -2, -4 (bars of one track or of all), sub-bar, band, half-locked, continuation,
whole-track (eight bars of a track shown nowhere else), scattered (cells here and there in four bars), phrase (found by
self-similarity), and pitch-only, rhythm-only, velocity-only, duration-only (one field of two bars' notes, apart).
With several samples the report also has their diversity, and the best of them by the model's likelihood and by reward.
The same corpus, split, shapes, items and seed give the same gaps, whichever the model. Each reading of the test split
is noted in OUT/test_readings.log: what is looked at often is no longer held out.
"""


class EvaluateError(HarmonixrError):
    """The evaluation that is asked for cannot be done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from harmonixr_model.engine.engine import temperature_text

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="made by `harmonixr ingest`")
    parser.add_argument(
        "--model",
        default=SHIPPED,
        metavar="MODEL",
        help="a checkpoint, `shipped`, `champion`, `challenger` or a version of the registry (default: shipped)",
    )
    parser.add_argument("--split", choices=("valid", "test"), default="valid", help="default: valid")
    parser.add_argument("--items", type=int, default=90, metavar="N", help="gaps (default: 90, five of each shape)")
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="fills a gap; 0: bits alone (default: 1)")
    parser.add_argument("--shapes", nargs="+", default=[], metavar="SHAPE", help="kinds of gap (default: all)")
    parser.add_argument("--sources", nargs="+", default=[], metavar="NAME", help="collections (default: all)")
    parser.add_argument(
        "--least-tracks", type=int, default=1, metavar="N", help="only pieces in which so many tracks play (default: 1)"
    )
    parser.add_argument("--by", nargs="+", default=[], choices=("source", "role"), help="further tables")
    parser.add_argument("--greedy", action="store_true", help="fill once more with the likeliest tokens")
    parser.add_argument("--reward", type=Path, metavar="FILE", help="a reward model, to choose the best sample by")
    parser.add_argument("--seed", type=int, default=0, help="of the gaps (default: 0)")
    parser.add_argument("--temperature", type=float, metavar="T", help=f"0: greedy (default: {temperature_text(None)})")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="draw among the K likeliest (default: all)")
    parser.add_argument("--top-p", type=float, default=0.98, metavar="P", help="nucleus (default: 0.98)")
    parser.add_argument(
        "--training",
        type=int,
        default=800,
        metavar="N",
        help="training pieces to retrieve from and to look for copies in; 0: neither (default: %(default)s)",
    )
    parser.add_argument("--passages", type=int, default=2, choices=range(3), help="a prompt remembers (default: 2)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="receives report.html, .md and .json")


def run(args: argparse.Namespace) -> int:
    """Evaluate; print the tables; return 0."""
    if args.items < 1 or min(args.samples, args.seed, args.training) < 0:
        raise EvaluateError("give at least 1 item, and samples, training pieces and a seed from 0 on")
    if args.reward is not None and args.samples < 2:
        raise EvaluateError("a reward model chooses among samples; give --samples 2 or more")
    if args.out.exists() and not args.out.is_dir():
        raise EvaluateError(f"{args.out} is a file; give a folder for the report")
    from harmonixr_model.evaluation.gallery import to_html

    report = _measure(args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "report.json").write_text(report.to_json() + "\n", encoding="utf-8")
    markdown = report.to_markdown(by=args.by)
    (args.out / "report.md").write_text(markdown + "\n", encoding="utf-8")
    (args.out / "report.html").write_text(to_html(report), encoding="utf-8")
    print(markdown)
    print(f"report: {args.out}/report.md, report.json, and report.html to look at and listen to")
    return 0


def _measure(args: argparse.Namespace) -> Report:
    from harmonixr_model.data.corpus import Corpus
    from harmonixr_model.evaluation.baselines import training_pieces
    from harmonixr_model.evaluation.protocol import VERSION
    from harmonixr_model.evaluation.report import evaluate
    from harmonixr_model.evaluation.systems import retrieval_system

    begun = time.monotonic()
    corpus = Corpus.open(args.corpus)
    systems, model = _systems(args, corpus)
    asked = _chosen(args, corpus)
    if args.training:
        systems.insert(-1, retrieval_system(asked, _training(args, corpus, "retrieving from training")))
    if args.split == "test":
        note_reading(args.out, model, corpus=args.corpus, gaps=len(asked), now=datetime.now(UTC))
    made: dict[str, Any] = {
        "model": model,
        "corpus": str(args.corpus),
        "split": args.split,
        "gaps": len(asked),
        "pieces": len({question.piece_id for question in asked}),
        "hidden notes": sum(question.notes for question in asked),
        "sources": " ".join(args.sources) or "all",
        "least tracks": args.least_tracks,
        "fills a gap": args.samples,
        "decoding": _decoding(args),
        "passages a prompt": args.passages,
        "training pieces looked at": len(training_pieces(corpus, args.training)),
        "seed": args.seed,
        "protocol": VERSION,
    }
    with progress_bar("measuring", len(asked), "gap") as bar:

        def show(question: EvaluationItem) -> None:
            bar.set_postfix(shape=question.shape, refresh=False)
            bar.update()

        training = _training(args, corpus, "looking for copies")
        report = evaluate(asked, systems, made=made, progress=show, training=training)
    report.made["seconds"] = round(time.monotonic() - begun)
    return report


def _systems(args: argparse.Namespace, corpus: Corpus) -> tuple[list[System], str]:
    """Return the model and the baselines, and how the report calls the model."""
    from harmonixr_model.engine.decoder import Decoder
    from harmonixr_model.engine.engine import Sampling
    from harmonixr_model.evaluation.baselines import MarkovBaseline
    from harmonixr_model.evaluation.protocol import CONTEXT_TOKENS
    from harmonixr_model.evaluation.systems import (
        Sampler,
        baseline_systems,
        best_of_systems,
        blind_system,
        greedy_system,
        human_system,
        model_system,
    )
    from harmonixr_model.fill.ranker import Ranker
    from harmonixr_model.infill.checkpoint import load_checkpoint
    from harmonixr_model.notes.field_tokens import NOTE_FIELDS

    ranker = Ranker.load(args.reward) if args.reward is not None else None
    sampling = Sampling(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p)
    path, name = find_model(args.model)
    model, _ = load_checkpoint(path)
    if model.config.max_length < CONTEXT_TOKENS:
        raise EvaluateError(
            f"{name} reads {model.config.max_length} tokens, the protocol uses {CONTEXT_TOKENS}; "
            "evaluate a model of a longer context"
        )
    with progress_bar("counting for the Markov chain", unit="piece") as bar:

        def show(done: int, pieces: int) -> None:
            bar.total = pieces
            bar.update(done - bar.n)

        fields = [only for only in NOTE_FIELDS if not args.shapes or f"{only}-only" in args.shapes]
        markov = MarkovBaseline.fit(corpus, fields=fields, progress=show)
    decoder = Decoder(model, compiled=args.items * args.samples >= MANY_FILLS)
    sampler = Sampler(decoder, args.samples, sampling) if args.samples else None
    return [
        model_system(model, sampler),
        *(best_of_systems(sampler, ranker=ranker) if sampler is not None and args.samples > 1 else ()),
        *([greedy_system(decoder)] if args.greedy else ()),
        blind_system(model),
        *baseline_systems(markov),
        human_system(),
    ], name


def _training(args: argparse.Namespace, corpus: Corpus, description: str) -> Iterator[Score]:
    """Yield training pieces one by one, nothing kept."""
    from harmonixr_model.evaluation.baselines import training_pieces

    chosen = training_pieces(corpus, args.training)
    if not chosen:
        return
    with progress_bar(description, len(chosen), "piece") as bar:
        for piece in chosen:
            yield corpus.score(piece)
            bar.update()


def _decoding(args: argparse.Namespace) -> str:
    """Name how the fills of the report are chosen."""
    from harmonixr_model.engine.engine import temperature_text

    said = [f"sampled (temperature {temperature_text(args.temperature)}, top-k {args.top_k}, top-p {args.top_p:g})"]
    said += ["greedy"] if args.greedy else []
    said += [f"best of {args.samples} by likelihood per token"] if args.samples > 1 else []
    said += [f"best of {args.samples} by the reward model {args.reward.name}"] if args.reward else []
    return "; ".join(said)


def _chosen(args: argparse.Namespace, corpus: Corpus) -> list[EvaluationItem]:
    from harmonixr_model.evaluation.protocol import questions

    asked = []
    with progress_bar("choosing gaps", args.items, "gap") as bar:
        found = questions(
            corpus,
            split=args.split,
            count=args.items,
            seed=args.seed,
            shapes=args.shapes,
            sources=args.sources,
            passages=args.passages,
            least_tracks=args.least_tracks,
        )
        for question in found:
            asked.append(question)
            bar.update()
    if len(asked) < args.items:
        print(f"{args.items - len(asked)} gaps are left out: no piece of the split has one of their shape that fits")
    return asked


def find_model(name: str) -> tuple[Path, str]:
    """Return the file that a model's name means, and how the report calls it."""
    from harmonixr_model.fill.infiller import shipped_weights

    if name == SHIPPED:
        if not shipped_weights().is_file():
            raise EvaluateError("this package came without weights; give --model a checkpoint, or install it again")
        return shipped_weights(), SHIPPED
    if Path(name).is_file():
        return Path(name), Path(name).name
    if name.endswith(".safetensors") or "/" in name:
        raise FileNotFoundError(2, "no such checkpoint", name)
    from harmonixr_platform.registry import open_registry
    from harmonixr_platform.settings import Settings

    registry = open_registry(Settings())
    version = registry.resolve("infill", name)
    return registry.fetch(version), f"{name} ({version.version})"


def note_reading(out: Path, model: str, *, corpus: Path, gaps: int, now: datetime) -> None:
    """Write down that the test split was looked at, and say so."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / READINGS
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{now:%FT%TZ} {model} on {gaps} gaps of {corpus}\n")
    print(f"this reads the test split; readings noted in {log}: {len(log.read_text(encoding='utf-8').splitlines())}")
