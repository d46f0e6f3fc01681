"""The evaluation of `harmonixr evaluate`: gaps, systems, measurement."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling, temperature_text
from harmonixr_model.errors import HarmonixrError
from harmonixr_model.evaluation.baselines import MarkovBaseline, training_pieces
from harmonixr_model.evaluation.markdown import to_markdown
from harmonixr_model.evaluation.protocol import CONTEXT_TOKENS, VERSION, EvaluationItem, evaluation_items
from harmonixr_model.evaluation.report import Report, evaluate
from harmonixr_model.evaluation.systems import (
    SampledFills,
    System,
    baseline_systems,
    best_of_systems,
    future_hidden_system,
    greedy_system,
    human_system,
    model_system,
    retrieval_system,
)
from harmonixr_model.fill.ranker import Ranker
from harmonixr_model.infill.checkpoint import load_checkpoint
from harmonixr_model.music.score import Score
from harmonixr_model.notes.field_tokens import NOTE_FIELDS
from harmonixr_platform.cli.arguments import model_file
from harmonixr_platform.cli.progress import progress_bar

READINGS = "test_readings.log"
MANY_FILLS = 100  # from this number on the compiled step saves more time than its compilation takes


class EvaluateError(HarmonixrError):
    """The evaluation cannot be done with these arguments."""


def measure(args: argparse.Namespace) -> Report:
    """Measure the model and the baselines on the gaps of the arguments."""
    started = time.monotonic()
    corpus = Corpus.open(args.corpus)
    systems, model = _systems(args, corpus)
    items = _items(args, corpus)
    pieces = training_pieces(corpus, args.training)
    if pieces:
        systems.insert(-1, retrieval_system(items, _scores(corpus, pieces, "retrieving from training")))
    if args.split == "test":
        record_reading(args.out, model, corpus=args.corpus, gaps=len(items), now=datetime.now(UTC))
    made: dict[str, Any] = {
        "model": model,
        "corpus": str(args.corpus),
        "split": args.split,
        "gaps": len(items),
        "pieces": len({item.piece_id for item in items}),
        "hidden notes": sum(item.notes for item in items),
        "sources": " ".join(args.sources) or "all",
        "least tracks": args.least_tracks,
        "fills a gap": args.samples,
        "decoding": _decoding(args),
        "passages a prompt": args.passages,
        "training pieces looked at": len(pieces),
        "seed": args.seed,
        "protocol": VERSION,
    }
    with progress_bar("measuring", len(items), "gap") as bar:

        def show(item: EvaluationItem) -> None:
            bar.set_postfix(shape=item.shape, refresh=False)
            bar.update()

        training = _scores(corpus, pieces, "searching for copies") if pieces else None
        report = evaluate(items, systems, made=made, progress=show, training=training)
    report.made["seconds"] = round(time.monotonic() - started)
    return report


def _systems(args: argparse.Namespace, corpus: Corpus) -> tuple[list[System], str]:
    """Return the model and the baselines, and the model's name in the report."""
    ranker = Ranker.load(args.reward) if args.reward is not None else None
    sampling = Sampling(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p)
    path, name = model_file(args.model)
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

        fields = [field for field in NOTE_FIELDS if not args.shapes or f"{field}-only" in args.shapes]
        markov = MarkovBaseline.fit(corpus, fields=fields, progress=show)
    decoder = Decoder(model, compiled=args.items * args.samples >= MANY_FILLS)
    sampled = SampledFills(decoder, args.samples, sampling) if args.samples else None
    return [
        model_system(model, sampled),
        *(best_of_systems(sampled, ranker=ranker) if sampled is not None and args.samples > 1 else ()),
        *([greedy_system(decoder)] if args.greedy else ()),
        future_hidden_system(model),
        *baseline_systems(markov),
        human_system(),
    ], name


def _scores(corpus: Corpus, pieces: Sequence[int], description: str) -> Iterator[Score]:
    """Yield the pieces one by one."""
    with progress_bar(description, len(pieces), "piece") as bar:
        for piece in pieces:
            yield corpus.score(piece)
            bar.update()


def _decoding(args: argparse.Namespace) -> str:
    """Return the decoding methods of the report."""
    methods = [f"sampled (temperature {temperature_text(args.temperature)}, top-k {args.top_k}, top-p {args.top_p:g})"]
    methods += ["greedy"] if args.greedy else []
    methods += [f"best of {args.samples} by likelihood per token"] if args.samples > 1 else []
    methods += [f"best of {args.samples} by the reward model {args.reward.name}"] if args.reward else []
    return "; ".join(methods)


def _items(args: argparse.Namespace, corpus: Corpus) -> list[EvaluationItem]:
    items = []
    with progress_bar("choosing gaps", args.items, "gap") as bar:
        found = evaluation_items(
            corpus,
            split=args.split,
            count=args.items,
            seed=args.seed,
            shapes=args.shapes,
            sources=args.sources,
            passages=args.passages,
            least_tracks=args.least_tracks,
        )
        for item in found:
            items.append(item)
            bar.update()
    if len(items) < args.items:
        print(f"{args.items - len(items)} gaps are left out: no piece of the split has a fitting gap of their shape")
    return items


def write_report(report: Report, folder: Path, *, by: Sequence[str] = ()) -> None:
    """Print the report, and write it to `report.md` and `report.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = to_markdown(report, by=by)
    (folder / "report.json").write_text(report.to_json() + "\n", encoding="utf-8")
    (folder / "report.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def record_reading(out: Path, model: str, *, corpus: Path, gaps: int, now: datetime) -> None:
    """Record a reading of the test split, and print the number of readings."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / READINGS
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{now:%FT%TZ} {model} on {gaps} gaps of {corpus}\n")
    print(f"this reads the test split; readings recorded in {log}: {len(log.read_text(encoding='utf-8').splitlines())}")
