"""`harmonixr ingest`: turn folders of MIDI into a training corpus."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonixr_platform.cli import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from harmonixr_model.data.build import ShardResult, Summary

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

    begun = time.monotonic()
    try:
        with Bar() as bar:
            summary = ingest_job.run(
                args.folders,
                args.out,
                manifest=args.manifest,
                dataset=args.dataset or "",
                uses_official_split=args.official_split,
                workers=args.workers,
                uses_ray=not args.no_ray,
                begin=bar.begin,
                listen=bar.show,
            )
    except KeyboardInterrupt:
        print("harmonixr ingest: interrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(table(summary, pace=bar.read / (time.monotonic() - begun)))
    print(f"corpus: {args.out}")
    if summary.rejected:
        print(f"rejects: {args.out / 'rejects.jsonl'}")
    return 0 if summary.pieces else 1


class Bar:
    """A progress bar over files, with the pieces, notes and rejects so far."""

    def __init__(self) -> None:
        self._bar: Any = None
        self.read = 0
        self._pieces = 0
        self._notes = 0
        self._rejected = 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, files: int) -> None:
        """Open the bar."""
        from tqdm import tqdm

        self._bar = tqdm(total=files, unit="file", desc="ingest", dynamic_ncols=True)

    def show(self, result: ShardResult) -> None:
        """Move by one shard."""
        self._notes += result.notes
        self.read += 0 if result.was_there else result.files
        rejected = sum(result.rejected.values())
        self._rejected += rejected
        self._pieces += result.files - rejected
        self._bar.set_postfix(pieces=self._pieces, notes=self._notes, rejected=self._rejected, refresh=False)
        self._bar.update(result.files)


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
