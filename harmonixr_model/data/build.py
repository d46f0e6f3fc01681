"""Folders of MIDI into a corpus, in three steps: plan shards, fill each one, finish. Knows nothing of who runs them.

A shard that is on disk is not made again, so an interrupted ingest goes on where it was.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harmonixr_model.data.corpus import (
    FORMAT,
    SPLITS,
    Piece,
    shard_records,
    write_atomically,
    write_manifest,
    write_shard,
)
from harmonixr_model.data.dedup import joined, near_duplicates
from harmonixr_model.data.ingest import Parsed, Rejected, read_file
from harmonixr_model.data.loaders.listing import Entry, Listing
from harmonixr_model.data.splits import split_of, split_of_given
from harmonixr_model.errors import CorpusError

SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
# Small enough that a few hundred files keep several workers busy, and that an interrupt costs seconds.
FILES_PER_SHARD = 64
FORGIVEN_DEATHS = 1


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """The files of one shard: (path relative to its folder, where it is), and whether all are performances."""

    name: str
    files: tuple[tuple[str, str], ...]
    is_performance: bool = False


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of a shard's files; `rejected` counts by reason, `processor_s` is what they took of a processor."""

    name: str
    files: int
    notes: int
    rejected: dict[str, int]
    was_there: bool
    processor_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What an ingest found.

    Attributes:
        files: read, rejects included.
        pieces: kept.
        notes: of these.
        exact_duplicates: left out for having the notes of another.
        near_duplicates: like an earlier piece, whose piece_id they share.
        split_conflicts: left out since a given manifest puts a near-duplicate of theirs into a held-out split.
        pseudo_bars: pieces without a usable metre.
        rejected: files by reason.
        splits: pieces by split.
    """

    files: int
    pieces: int
    notes: int
    exact_duplicates: int
    near_duplicates: int
    split_conflicts: int
    pseudo_bars: int
    rejected: dict[str, int]
    splits: dict[str, int]


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
    """Return the shards to fill, and write the plan down; raises CorpusError when `out` holds another one."""
    plans = [
        ShardPlan(f"{i // FILES_PER_SHARD:05d}", tuple(files[i : i + FILES_PER_SHARD]), is_performance)
        for i in range(0, len(files), FILES_PER_SHARD)
    ]
    said = {"format": FORMAT, "files_per_shard": FILES_PER_SHARD, "files": [list(file) for file in files]}
    plan = json.dumps(said | ({"is_performance": True} if is_performance else {})).encode()
    path = out / "plan.json"
    if path.exists() and path.read_bytes() != plan:
        raise CorpusError(f"{out} holds an ingest of other files; give another --out, or remove that folder")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, plan)
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
    """Remembers across processes which file was being read, so that one which kills its reader is left out in the end.

    A parser in C may die of a damaged file where Python would raise. One death is forgiven: it may have been a user's
    interrupt, or the machine's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._deaths: Counter[str] = Counter()
        if path.exists():
            said = json.loads(path.read_text() or "{}")
            self._deaths.update(said.get("deaths", {}))
            self._deaths.update([said["reading"]] if "reading" in said else [])

    def read(self, path: str, *, is_performance: bool = False) -> Parsed | Rejected:
        """Read one file, or reject it when it has ended its reader too often."""
        if self._deaths[path] >= FORGIVEN_DEATHS + 1:
            return Rejected("kills_the_parser", "reading it ended the process")
        write_atomically(self._path, json.dumps({"reading": path, "deaths": self._deaths}).encode(), syncs=False)
        return read_path(path, is_performance=is_performance)

    def close(self) -> None:
        """Forget: the shard is whole."""
        self._path.unlink(missing_ok=True)


def read_path(path: str, *, is_performance: bool = False) -> Parsed | Rejected:
    """Read one file from disk: what `read_file` says, or Rejected when the file itself cannot be read."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return Rejected("unreadable", error.strerror or "cannot be read")
    return read_file(data, is_performance=is_performance)


def read_given_manifest(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a manifest by path; it needs the columns path, piece_id and split; raises CorpusError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"path", "piece_id", "split"} - set(reader.fieldnames or ())
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path} is not a table of comma-separated values ({error})") from None
    if missing:
        raise CorpusError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    for line, row in enumerate(rows, start=2):
        if row["split"] not in SPLITS:
            raise CorpusError(f"{path}, line {line}: there is no split {row['split']!r}; write {', '.join(SPLITS)}")
    return {row["path"]: row for row in rows}


def finish(
    out: Path, *, given: Mapping[str, Mapping[str, str]] | None = None, listing: Listing | None = None
) -> Summary:
    """Leave out exact duplicates, give near-duplicates one piece_id, split by piece, and write the manifest.

    With `given` rows (see `read_given_manifest`) their piece_id, split, source, composer, title, licence and styles
    (parted by semicolons) hold, and pieces they do not name are left out. With a `listing` files that share a key of
    the collection's are one piece with all near-duplicates of theirs, and the collection's own split holds where it
    has one.
    """
    records = [record | {"shard": shard} for shard, record in shard_records(out)]
    files = len(records)
    if given is not None:
        records = [record for record in records if record["path"] in given]
    unique = list(_first_of_each_hash(records))
    first_of = near_duplicates([record["fingerprint"] for record in unique])
    near = sum(first != i for i, first in enumerate(first_of))
    if listing is None:
        kept = [r | _identity(r, unique[first], given) for r, first in zip(unique, first_of, strict=True)]
    else:
        entries = {entry.path: entry for entry in listing.entries}
        first_of = joined(first_of, _keys(records, unique, entries))
        kept = [
            r | _listed(entries[r["path"]], entries[unique[first]["path"]], listing)
            for r, first in zip(unique, first_of, strict=True)
        ]
    kept = _one_split_a_cluster(kept, first_of)
    split_conflicts = len(unique) - len(kept)
    rejected = _rejects(out)
    summary = Summary(
        files=files + sum(rejected.values()),
        pieces=len(kept),
        notes=sum(record["notes"] for record in kept),
        exact_duplicates=len(records) - len(unique),
        near_duplicates=near,
        split_conflicts=split_conflicts,
        pseudo_bars=sum(record["has_pseudo_bars"] for record in kept),
        rejected=rejected,
        splits=dict(Counter(record["split"] for record in kept)),
    )
    write_manifest(out, kept, made=asdict(summary))
    return summary


def _first_of_each_hash(records: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for record in records:
        if record["notes_hash"] not in seen:
            seen.add(record["notes_hash"])
            yield record


def _identity(
    record: Mapping[str, Any], first: Mapping[str, Any], given: Mapping[str, Mapping[str, str]] | None
) -> dict[str, Any]:
    if given is None:
        piece_id = str(first["notes_hash"])[:16]
        return {"piece_id": piece_id, "split": split_of(piece_id), "source": str(record["path"]).split("/")[0]}
    row = given[record["path"]]
    known = {name: row.get(name, "") or "" for name in ("piece_id", "source", "composer", "title", "licence")}
    styles = [style.strip() for style in (row.get("styles") or "").split(";") if style.strip()]
    return known | {"split": split_of_given(row["split"], row["piece_id"]), "styles": styles}


def _keys(
    records: Sequence[dict[str, Any]], unique: Sequence[dict[str, Any]], entries: Mapping[str, Entry]
) -> list[tuple[str, ...]]:
    """Return what each unique record is called; the names of its exact duplicates, which are left out, are its own."""
    called: dict[str, tuple[str, ...]] = {}
    for record in records:
        called[record["notes_hash"]] = (*called.get(record["notes_hash"], ()), *entries[record["path"]].keys)
    return [called[record["notes_hash"]] for record in unique]


def _listed(entry: Entry, first: Entry, listing: Listing) -> dict[str, Any]:
    piece_id = first.keys[0]
    return {
        "piece_id": piece_id,
        "split": entry.split or split_of(piece_id),
        "source": listing.name,
        "licence": listing.licence,
        "composer": entry.composer,
        "title": entry.title,
        "styles": list(entry.styles),
    }


def _one_split_a_cluster(records: list[dict[str, Any]], first_of: Sequence[int]) -> list[dict[str, Any]]:
    """Return the records less those whose near-duplicate a given manifest put into another split: held out wins."""
    order = ("test", "valid", "train")
    best: dict[int, str] = {}
    for record, first in zip(records, first_of, strict=True):
        best[first] = min(best.get(first, "train"), record["split"], key=order.index)
    return [record for record, first in zip(records, first_of, strict=True) if record["split"] == best[first]]


def _rejects(out: Path) -> dict[str, int]:
    """Gather the shards' rejects into rejects.jsonl and count them by reason."""
    lines = [
        line for path in sorted((out / "shards").glob("*.rejects.jsonl")) for line in path.read_text().splitlines()
    ]
    write_atomically(out / "rejects.jsonl", "".join(line + "\n" for line in lines).encode())
    return dict(Counter(json.loads(line)["reason"] for line in lines).most_common())
