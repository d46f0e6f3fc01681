"""`harmonixr feedback`: make pools of pairs, move, export and report judgments, and simulate listeners."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harmonixr_platform.cli import feedback_report

if TYPE_CHECKING:
    from harmonixr_platform.feedback.generate import Contestant, Piece
    from harmonixr_platform.settings import Settings

EPILOG = """
examples:
  harmonixr feedback pool --name default SONG.mid FOLDER --pairs 40
  harmonixr feedback status
  harmonixr feedback simulate 200 --api http://127.0.0.1:8000
  harmonixr feedback report --html report.html
  harmonixr feedback export --out judgments.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    pool = actions.add_parser("pool", help="fill gaps of songs twice and keep the pairs for blind listening")
    pool.add_argument("songs", nargs="*", type=Path, metavar="SONG", help="MIDI files or folders (default: examples)")
    pool.add_argument("--name", default="default", help="the pool (default: default)")
    pool.add_argument("--pairs", type=_positive, default=20, help="how many pairs (default: 20)")
    pool.add_argument("--seed", type=int, default=0, help="the same seed makes the same pairs")
    pool.add_argument("--models", default="", help="versions or aliases, with commas (default: champion, challenger)")
    actions.add_parser("move", help="carry recorded judgments to the object store now")
    actions.add_parser("status", help="what is recorded and not yet moved, and which pools exist")
    report = actions.add_parser("report", help="counts, wins by model version and a ranking")
    feedback_report.add_arguments(report)
    export = actions.add_parser("export", help="write the judgments that stand as JSON lines")
    export.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="where to; '-' for the terminal")
    simulate = actions.add_parser("simulate", help="judge N pairs over HTTP by a formula, labelled as simulated")
    simulate.add_argument("count", type=_positive, metavar="N", help="how many judgments")
    simulate.add_argument("--api", help="the service (default: the address in the settings)")
    simulate.add_argument("--pool", default="default", help="the pool (default: default)")
    simulate.add_argument("--raters", type=_positive, default=8, help="how many raters (default: 8)")
    simulate.add_argument("--seed", type=int, default=0, help="of the listeners' noise and names")


def run(args: argparse.Namespace) -> int:
    """Do what the arguments say; return 0, or 1 when nothing could be made."""
    from harmonixr_platform.settings import Settings

    actions = {
        "pool": _pool,
        "move": _move,
        "status": _status,
        "report": feedback_report.run,
        "export": _export,
        "simulate": _simulate,
    }
    return actions[args.action](args, Settings())


def _pool(args: argparse.Namespace, settings: Settings) -> int:
    from harmonixr_platform.feedback.generate import Skipped, build_pool
    from harmonixr_platform.stores.objects import open_object_store

    pieces = _pieces(args.songs)
    contestants = _contestants(settings, [name for name in args.models.split(",") if name.strip()])
    made, skipped = 0, Counter[str]()
    pairs = build_pool(
        open_object_store(settings),
        pieces,
        pool=args.name,
        contestants=contestants,
        pairs=args.pairs,
        seed=args.seed,
    )
    for pair in pairs:
        if isinstance(pair, Skipped):
            skipped[pair.reason] += 1
        else:
            made += 1
        _progress(f"{made} pairs of {args.pairs}")
    _progress(None)
    print(f"pool {args.name}: {made} pairs of {len(pieces)} songs, by {', '.join(c.version for c in contestants)}")
    for reason, count in skipped.most_common():
        print(f"  {count} not made: {reason}")
    return 0 if made else 1


def _pieces(songs: Iterable[Path]) -> list[Piece]:
    from harmonixr_platform.feedback.errors import FeedbackError
    from harmonixr_platform.feedback.generate import Piece

    files: list[Path] = []
    for song in songs:
        found = sorted(p for p in song.rglob("*") if p.suffix.lower() in {".mid", ".midi"}) if song.is_dir() else [song]
        if not found:
            raise FeedbackError(f"{song} holds no .mid or .midi file")
        files += found
    if files:
        return [Piece.of(file.read_bytes()) for file in files]
    from harmonixr_model import examples

    return [Piece(f"example-{name}", examples.load(name)) for name in examples.names()]


def _contestants(settings: Settings, names: list[str]) -> list[Contestant]:
    from harmonixr_model.infiller import Infiller
    from harmonixr_model.weights import SHIPPED
    from harmonixr_platform.feedback.generate import Contestant
    from harmonixr_platform.registry import open_registry

    registry = open_registry(settings)
    if not names and SHIPPED.is_file():
        registry.ensure_shipped(SHIPPED)
    if not names:
        names = ["champion"] + (["challenger"] if registry.alias("infill", "challenger") else [])
    versions = {version.version: version for version in (registry.resolve("infill", name.strip()) for name in names)}
    return [Contestant(Infiller.load(registry.fetch(v)), v.version, v.sha256) for v in versions.values()]


def _move(_: argparse.Namespace, settings: Settings) -> int:
    from harmonixr_platform.feedback.mover import Mover

    mover = Mover.open(settings)
    try:
        print(f"moved {mover.run_once()} records to {settings.objects_url}")
    finally:
        mover.close()
    return 0


def _status(_: argparse.Namespace, settings: Settings) -> int:
    from harmonixr_platform.feedback.service import FeedbackService

    service = FeedbackService.open(settings)
    try:
        backlog = service.backlog()
        print(f"not yet moved: {backlog.undelivered} new, {backlog.pending} on their way", end="")
        print(f", the oldest {backlog.oldest_age_s:.0f} s old" if backlog.oldest_age_s else "")
        for name in service.pools.names():
            print(f"pool {name}: {len(service.pools.pair_ids(name))} pairs")
        for fault in service.durability_faults():
            print(f"warning: {fault}")
    finally:
        service.close()
    return 0


def _export(args: argparse.Namespace, settings: Settings) -> int:
    from harmonixr_platform.feedback.reader import read_feedback
    from harmonixr_platform.stores.objects import open_object_store

    judged = read_feedback(open_object_store(settings)).judged
    lines = (
        json.dumps(
            {
                "outcome": row.outcome,
                "judgment": row.judgment.model_dump(mode="json"),
                "comparison": row.comparison.model_dump(mode="json"),
                "pair": row.pair.model_dump(mode="json"),
            }
        )
        for row in judged
    )
    if str(args.out) == "-":
        for line in lines:
            print(line)
        return 0
    with open(args.out, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    print(f"wrote {len(judged)} judgments to {args.out}")
    return 0


def _simulate(args: argparse.Namespace, settings: Settings) -> int:
    from harmonixr_platform.feedback.simulate import simulate

    api = args.api or f"http://{settings.host}:{settings.api_port}"
    choices: Counter[str] = Counter()
    for answer in simulate(api, args.count, pool=args.pool, raters=args.raters, seed=args.seed):
        choices[answer.choice.value] += 1
        _progress(f"{choices.total()} judgments of {args.count}")
    _progress(None)
    told = ", ".join(f"{count} {choice}" for choice, count in sorted(choices.items()))
    print(f"{choices.total()} simulated judgments stored: {told}")
    return 0


def _progress(text: str | None) -> None:
    """Redraw the line that says how far it is; None wipes it. Nothing when nobody watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text or ''}", end="", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number
