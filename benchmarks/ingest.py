"""Speed of ingest by number of workers, the rejected files, and the cost of reading a corpus.

    python benchmarks/ingest.py FOLDER … [--manifest M.csv] [--every 8] [--workers 1 2] --out EMPTY_FOLDER

Each number of workers ingests all files, as `harmonixr ingest --workers N` does with its own Ray; 0 is this process
without Ray. Files per second are counted from the end of the first shard to the end of the last one, without the start
of Ray. Files per CPU second depend less on other processes. Then a new process reads every note of the corpus and
records its memory. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harmonixr_model.data.build import Summary
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.shards import ShardResult, find_files

STOPS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one ingest.

    Attributes:
        first_s: until the end of the first shard, the start of Ray included.
        filling_s: from there to the end of the last shard.
        whole_s: in all.
        processor_s: CPU seconds of all shards.
    """

    workers: int
    files: int
    first_files: int
    first_s: float
    filling_s: float
    whole_s: float
    processor_s: float

    @property
    def files_per_s(self) -> float:
        """Speed between the end of the first shard and that of the last one."""
        return (self.files - self.first_files) / max(self.filling_s, 1e-9)


def main(argv: Sequence[str] | None = None) -> int:
    """Ingest with each number of workers, then read; print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--manifest", type=Path, help="as for `harmonixr ingest`")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take only every Nth file")
    parser.add_argument("--out", type=Path, help="an empty folder; it keeps the last corpus")
    parser.add_argument(
        "--read", type=Path, metavar="CORPUS", help="only read this corpus and print its memory as JSON"
    )
    args = parser.parse_args(argv)
    if args.read is not None:
        sys.stdout.write(json.dumps(read_all(args.read)) + "\n")
        return 0
    if not args.folders or args.out is None or (args.out.exists() and any(args.out.iterdir())):
        parser.error("give at least one FOLDER and an empty --out")
    timings, out, folders = [], args.out, args.folders
    if args.every > 1:
        folders = [some_of(folders, args.out / "files", every=args.every)]
    for workers in args.workers:
        out = args.out / f"workers{workers}"
        timing, summary = ingest(folders, out, manifest=args.manifest, workers=workers)
        timings.append(timing)
        sys.stderr.write(f"{workers} workers: {timing.files_per_s:.1f} files/s, {asdict(summary)}\n")
    output = subprocess.run(
        [sys.executable, __file__, "--read", str(out)], check=True, capture_output=True, text=True
    ).stdout
    sys.stdout.write("\n\n".join([pace_table(timings), found_table(summary), memory_table(json.loads(output))]) + "\n")
    return 0


def some_of(folders: Sequence[Path], links: Path, *, every: int) -> Path:
    """Link every Nth file of the folders into one folder."""
    for relative, path in find_files(folders)[::every]:
        (links / relative).parent.mkdir(parents=True, exist_ok=True)
        (links / relative).symlink_to(path)
    return links


def ingest(folders: Sequence[Path], out: Path, *, manifest: Path | None, workers: int) -> tuple[Timing, Summary]:
    """Run one ingest and time it."""
    from harmonixr_platform.training import ingest_job

    ends: list[tuple[float, int]] = []
    processor_s = 0.0

    def listen(result: ShardResult) -> None:
        nonlocal processor_s
        processor_s += result.processor_s
        ends.append((time.monotonic(), result.files))
        sys.stderr.write(f"\r{sum(files for _, files in ends)} files, {time.monotonic() - started:.0f} s ")

    started = time.monotonic()
    summary = ingest_job.run(
        folders, out, manifest=manifest, workers=workers or None, uses_ray=workers > 0, on_shard=listen
    )
    whole_s = time.monotonic() - started
    return (
        Timing(
            workers=workers,
            files=sum(files for _, files in ends),
            first_files=ends[0][1],
            first_s=ends[0][0] - started,
            filling_s=ends[-1][0] - ends[0][0],
            whole_s=whole_s,
            processor_s=processor_s,
        ),
        summary,
    )


def read_all(folder: Path) -> dict[str, object]:
    """Read every piece's notes by memory map in this process; return the speed, and memory in MiB during reading."""
    before = memory_mib()
    corpus = Corpus.open(folder)
    stops = [round(share * (len(corpus) - 1)) for share in STOPS]
    rows, notes, longest = [], 0, 0
    started = time.monotonic()
    for index in range(len(corpus)):
        count = sum(len(track.notes) for track in corpus.score(index).tracks)
        notes, longest = notes + count, max(longest, count)
        if index in stops:
            rows.append({"pieces": index + 1, "notes": notes, **memory_mib()})
    taken_s = time.monotonic() - started
    stored = sum(path.stat().st_size for path in folder.glob("shards/*.npy")) / 2**20
    manifest = (folder / "manifest.jsonl").stat().st_size / 2**20
    return {
        "rows": rows,
        "before": before,
        "notes_per_s": notes / taken_s,
        "longest": longest,
        "stored_mib": stored,
        "manifest_mib": manifest,
    }


def memory_mib() -> dict[str, float]:
    """Return the own memory of this process, that of mapped files, and the peak resident memory (Linux)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    names = {"own": "RssAnon", "mapped": "RssFile", "peak": "VmHWM"}
    return {name: int(lines[field].split()[0]) / 1024 for name, field in names.items()}


def pace_table(timings: Sequence[Timing]) -> str:
    """Return the table of speed by number of workers."""
    rows = [
        "| workers | files | files/s | ratio to the first row | files per CPU second | start of Ray and first shard "
        "| whole ingest |",
        "|---|---|---|---|---|---|---|",
    ]
    for timing in timings:
        name = timing.workers or "no Ray"
        gain = timing.files_per_s / timings[0].files_per_s
        rows.append(
            f"| {name} | {timing.files:,} | {timing.files_per_s:.1f} | {gain:.2f} "
            f"| {timing.files / timing.processor_s:.1f} | {timing.first_s:.1f} s | {timing.whole_s:.0f} s |"
        )
    return "\n".join(rows)


def found_table(summary: Summary) -> str:
    """Return the table of accepted and rejected files."""
    rows = [("files", summary.files), ("accepted pieces", summary.pieces), ("notes", summary.notes)]
    rows += [("exact duplicates, left out", summary.exact_duplicates)]
    rows += [("near-duplicates of another piece", summary.near_duplicates)]
    rows += [("near-duplicates in another split, left out", summary.split_conflicts)]
    rows += [("pieces with pseudo-bars", summary.pseudo_bars)]
    rows += [(f"rejected: {reason.replace('_', ' ')}", count) for reason, count in summary.rejected.items()]
    lines = [f"| {name} | {count:,} | {100 * count / summary.files:.1f} % |" for name, count in rows]
    lines = [line if not line.startswith("| notes") else f"| notes | {summary.notes:,} | |" for line in lines]
    return "\n".join(["| | | share of all files |", "|---|---|---|", *lines])


def memory_table(measured: dict[str, object]) -> str:
    """Return the table of memory during reading."""
    rows = measured["rows"]
    assert isinstance(rows, list)
    lines = [
        f"| {row['pieces']:,} | {row['notes']:,} | {row['own']:.0f} | {row['mapped']:.0f} | {row['peak']:.0f} |"
        for row in rows
    ]
    head = (
        f"{measured['notes_per_s']:,.0f} notes/s as Python values; notes on disk {measured['stored_mib']:.0f} MiB, "
        f"manifest {measured['manifest_mib']:.0f} MiB, longest piece {measured['longest']:,} notes."
    )
    table = ["| pieces read | notes | own memory, MiB | mapped, MiB | peak resident, MiB |", "|---|---|---|---|---|"]
    return "\n".join([head, "", *table, *lines])


if __name__ == "__main__":
    raise SystemExit(main())
