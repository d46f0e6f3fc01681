"""`harmonixr ingest`: build a training corpus from folders of MIDI."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from harmonixr_platform.cli import EXIT_INTERRUPTED
from harmonixr_platform.cli.progress import progress_bar

if TYPE_CHECKING:
    from harmonixr_model.data.build import Summary
    from harmonixr_model.data.shards import ShardResult

EPILOG = """
The command reads all .mid, .midi, .kar and .rmi files in the folders, at any depth. Damaged files do not stop the run;
they are counted and listed in CORPUS/rejects.jsonl. The same command continues an interrupted run.
Near-duplicates, also in another key, share a piece_id and so a split (train 90 %, valid 5 %, test 5 %).
With --dataset, FOLDER is an unpacked download of that collection, and the collection's own metadata defines the pieces.
"""
# Listed here so that --help does not import the loaders.
DATASETS = ("giantmidi", "lakh", "maestro", "pop909")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="where the MIDI files are")
    parser.add_argument("--out", type=Path, required=True, metavar="CORPUS", help="the folder of the corpus")
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="M.csv",
        help="use only the files of this table, with its piece_id and split; columns path, piece_id, split, and "
        "optionally source, composer, title, licence, styles (a; b); its valid pieces are halved into valid and test",
    )
    parser.add_argument("--dataset", choices=DATASETS, help="FOLDER is an unpacked download of this collection")
    parser.add_argument(
        "--official-split",
        action="store_true",
        help="use the dataset's own split (MAESTRO, GiantMIDI) instead of a split by piece",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="shards to fill in parallel (default: all cores)")
    parser.add_argument("--no-ray", action="store_true", help="fill the shards one after another in this process")


def run(args: argparse.Namespace) -> int:
    """Ingest; return 0, or 1 when no file could be used."""
    from harmonixr_platform.training import ingest_job

    started = time.monotonic()
    so_far: Counter[str] = Counter()
    try:
        with progress_bar("ingesting", unit="file") as bar:

            def show(shard: ShardResult) -> None:
                rejected = sum(shard.rejected.values())
                so_far.update(pieces=shard.files - rejected, notes=shard.notes, rejected=rejected)
                so_far["read"] += 0 if shard.was_there else shard.files
                bar.set_postfix({name: so_far[name] for name in ("pieces", "notes", "rejected")}, refresh=False)
                bar.update(shard.files)

            summary = ingest_job.run(
                args.folders,
                args.out,
                manifest=args.manifest,
                dataset=args.dataset or "",
                uses_official_split=args.official_split,
                workers=args.workers,
                uses_ray=not args.no_ray,
                on_start=bar.reset,
                on_shard=show,
            )
    except KeyboardInterrupt:
        print("harmonixr ingest: interrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(summary_table(summary, pace=so_far["read"] / (time.monotonic() - started)))
    print(f"corpus: {args.out}")
    if summary.rejected:
        print(f"rejects: {args.out / 'rejects.jsonl'}")
    return 0 if summary.pieces else 1


def summary_table(summary: Summary, *, pace: float) -> str:
    """Return the counts as a table; `pace` is the files read a second, the start of Ray included."""
    rows = [
        ("files", summary.files),
        ("files read a second", round(pace)),
        ("pieces kept", summary.pieces),
        *((f"  {split}", summary.splits.get(split, 0)) for split in ("train", "valid", "test")),
        ("notes", summary.notes),
        ("pieces with pseudo-bars (no usable metre)", summary.pseudo_bars),
        ("exact duplicates left out", summary.exact_duplicates),
        ("near-duplicates of another piece", summary.near_duplicates),
        ("near-duplicates held out elsewhere, left out", summary.split_conflicts),
        ("rejected", sum(summary.rejected.values())),
        *((f"  {reason.replace('_', ' ')}", count) for reason, count in summary.rejected.items()),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {count:>10,}" for name, count in rows)
