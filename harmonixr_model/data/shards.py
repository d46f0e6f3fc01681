"""MIDI files in shards of a corpus: plan the shards, then fill each one.

A shard that is on disk is not made again, so an interrupted ingest continues where it was.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harmonixr_model.data.corpus import FORMAT, Piece, write_atomically, write_shard
from harmonixr_model.data.ingest import Parsed, Rejected, read_file
from harmonixr_model.errors import CorpusError

SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
# Small enough that a few hundred files keep several workers busy, and that an interrupt costs seconds.
FILES_PER_SHARD = 64
FORGIVEN_DEATHS = 1


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """The files of one shard, as (path relative to its folder, path), and whether all are performances."""

    name: str
    files: tuple[tuple[str, str], ...]
    is_performance: bool = False


@dataclass(frozen=True, slots=True)
class ShardResult:
    """The result of filling a shard; `rejected` counts by reason, `processor_s` is the processor time."""

    name: str
    files: int
    notes: int
    rejected: dict[str, int]
    was_there: bool
    processor_s: float = 0.0


def find_files(folders: Sequence[Path]) -> list[tuple[str, str]]:
    """Return (relative path, path) of every MIDI file under the folders, sorted; raises CorpusError without any."""
    found: list[tuple[str, str]] = []
    for folder in folders:
        if not folder.exists():
            raise FileNotFoundError(2, "no such folder", str(folder))
        if folder.is_file():
            found.append((folder.name, str(folder.resolve())))
            continue
        for where, _, names in os.walk(folder, followlinks=True):
            found += [
                (str((Path(where) / name).relative_to(folder)), str((Path(where) / name).resolve()))
                for name in names
                if name.lower().endswith(SUFFIXES)
            ]
    if not found:
        raise CorpusError(
            f"no MIDI file ({', '.join(SUFFIXES)}) under {', '.join(map(str, folders))}; give the folder that has them"
        )
    return sorted(set(found))


def plan_shards(files: Sequence[tuple[str, str]], out: Path, *, is_performance: bool = False) -> list[ShardPlan]:
    """Return the shards to fill, and save the plan in `out`; raises CorpusError when it has another plan."""
    plans = [
        ShardPlan(f"{i // FILES_PER_SHARD:05d}", tuple(files[i : i + FILES_PER_SHARD]), is_performance)
        for i in range(0, len(files), FILES_PER_SHARD)
    ]
    plan = {"format": FORMAT, "files_per_shard": FILES_PER_SHARD, "files": [list(file) for file in files]}
    data = json.dumps(plan | ({"is_performance": True} if is_performance else {})).encode()
    path = out / "plan.json"
    if path.exists() and path.read_bytes() != data:
        raise CorpusError(f"{out} holds an ingest of other files; give another --out, or remove that folder")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    return plans


def fill_shard(plan: ShardPlan, out: Path) -> ShardResult:
    """Read the files of one shard and write it, unless it is there; a damaged file is counted, never raised."""
    rejects_path = out / "shards" / f"{plan.name}.rejects.jsonl"
    was_there = (out / "shards" / f"{plan.name}.jsonl").exists() and rejects_path.exists()
    if was_there:
        lines = [json.loads(line) for line in rejects_path.read_text().splitlines()]
        return ShardResult(plan.name, len(plan.files), 0, dict(Counter(line["reason"] for line in lines)), True)
    began_s = time.process_time()
    (out / "shards").mkdir(parents=True, exist_ok=True)
    journal = Journal(out / "shards" / f"{plan.name}.reading")
    rejects: list[dict[str, str]] = []
    pieces = []
    for relative, path in plan.files:
        parsed = journal.read(path, is_performance=plan.is_performance)
        if isinstance(parsed, Rejected):
            rejects.append({"path": relative, **asdict(parsed)})
            continue
        piece = Piece(
            path=relative,
            has_pseudo_bars=parsed.has_pseudo_bars,
            notes=parsed.notes,
            notes_hash=parsed.notes_hash,
            fingerprint=parsed.fingerprint,
        )
        pieces.append((piece, parsed.score))
    write_atomically(rejects_path, "".join(json.dumps(reject) + "\n" for reject in rejects).encode())
    notes = write_shard(out, plan.name, pieces)
    journal.close()
    reasons = dict(Counter(r["reason"] for r in rejects))
    return ShardResult(plan.name, len(plan.files), notes, reasons, False, time.process_time() - began_s)


class Journal:
    """A record on disk of the file being read, so that a file which kills its process is left out in the end.

    A parser in C may crash on a damaged file where Python would raise. One death is forgiven: it may have been an
    interrupt.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._deaths: Counter[str] = Counter()
        if path.exists():
            saved = json.loads(path.read_text() or "{}")
            self._deaths.update(saved.get("deaths", {}))
            self._deaths.update([saved["reading"]] if "reading" in saved else [])

    def read(self, path: str, *, is_performance: bool = False) -> Parsed | Rejected:
        """Read one file, or reject it when reading it has ended the process too often."""
        if self._deaths[path] >= FORGIVEN_DEATHS + 1:
            return Rejected("kills_the_parser", "reading it ended the process")
        write_atomically(self._path, json.dumps({"reading": path, "deaths": self._deaths}).encode(), syncs=False)
        return read_path(path, is_performance=is_performance)

    def close(self) -> None:
        """Delete the record: the shard is complete."""
        self._path.unlink(missing_ok=True)


def read_path(path: str, *, is_performance: bool = False) -> Parsed | Rejected:
    """Return `read_file` of one file on disk, or Rejected when the file cannot be read."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return Rejected("unreadable", error.strerror or "cannot be read")
    return read_file(data, is_performance=is_performance)
