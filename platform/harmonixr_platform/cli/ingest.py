"""`harmonixr ingest`: turn folders of MIDI into a training corpus."""

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
Folders are searched to the bottom for .mid, .midi, .kar and .rmi. A damaged file is counted and listed in
OUT/rejects.jsonl, it never stops the run. An interrupted run goes on where it was when it is started again.
Near-duplicates, also in another key, share a piece_id; a split (train 90 %, valid 5 %, test 5 %) never parts them.
With --dataset FOLDER is a download as it was unpacked, and pieces are what the collection itself says they are.
"""
# Named here, so that --help imports no music.
DATASETS = ("giantmidi", "lakh", "maestro", "pop909")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="where the MIDI files are")
    parser.add_argument("--out", type=Path, required=True, metavar="CORPUS", help="the folder of the corpus")
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="M.csv",
        help="take only the files named here, with their piece_id and split; columns path, piece_id, split, "
        "and if known source, composer, title, licence, styles (a; b); its valid is halved into valid and test",
    )
    parser.add_argument("--dataset", choices=DATASETS, help="FOLDER is this collection, as it was unpacked")
    parser.add_argument(
        "--official-split",
        action="store_true",
        help="keep the dataset's own split (MAESTRO, GiantMIDI), not one by piece",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="shards filled at once (default: all cores)")
    parser.add_argument("--no-ray", action="store_true", help="one shard after another in this process")


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
                begin=bar.reset,
                listen=show,
            )
    except KeyboardInterrupt:
        print("harmonixr ingest: interrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(table(summary, pace=so_far["read"] / (time.monotonic() - started)))
    print(f"corpus: {args.out}")
    if summary.rejected:
        print(f"rejects: {args.out / 'rejects.jsonl'}")
    return 0 if summary.pieces else 1


def table(summary: Summary, *, pace: float) -> str:
    """Lay out what was found, and how many files a second were read, Ray's start included."""
    rows: list[tuple[str, int]] = [("files", summary.files), ("files read a second", round(pace))]
    rows += [("pieces kept", summary.pieces)]
    rows += [(f"  {split}", summary.splits.get(split, 0)) for split in ("train", "valid", "test")]
    rows += [
        ("notes", summary.notes),
        ("pieces with pseudo-bars (no usable metre)", summary.pseudo_bars),
        ("exact duplicates left out", summary.exact_duplicates),
        ("near-duplicates of another piece", summary.near_duplicates),
        ("near-duplicates held out elsewhere, left out", summary.split_conflicts),
        ("rejected", sum(summary.rejected.values())),
    ]
    rows += [(f"  {reason.replace('_', ' ')}", count) for reason, count in summary.rejected.items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {count:>10,}" for name, count in rows)
