"""Finish a corpus from its shards: leave out duplicates, identify pieces, split them, and write the manifest."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harmonixr_model.data.corpus import SPLITS, shard_records, write_atomically, write_manifest
from harmonixr_model.data.dedup import merge_clusters, near_duplicates
from harmonixr_model.data.loaders.listing import ListedFile, Listing
from harmonixr_model.data.splits import split_of, split_of_given
from harmonixr_model.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of an ingest.

    Attributes:
        files: files read, rejects included.
        pieces: pieces in the corpus.
        notes: notes of these pieces.
        exact_duplicates: files left out because another has the same notes.
        near_duplicates: pieces that share the piece_id of a similar earlier piece.
        split_conflicts: pieces left out because a given manifest holds out a near-duplicate of theirs.
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

    `given` rows (see `read_given_manifest`) set piece_id, split, source, composer, title, licence and styles (separated
    by semicolons); pieces without a row are left out. With a `listing`, files that share a key of the collection, and
    all their near-duplicates, are one piece, and the collection's own split applies where it has one.
    """
    records = [record | {"shard": shard} for shard, record in shard_records(out)]
    files = len(records)
    if given is not None:
        records = [record for record in records if record["path"] in given]
    unique = list(_first_of_each_hash(records))
    first_of = near_duplicates([record["fingerprint"] for record in unique])
    near = sum(first != i for i, first in enumerate(first_of))
    if listing is None:
        pieces = [r | _identity(r, unique[first], given) for r, first in zip(unique, first_of, strict=True)]
    else:
        entries = {entry.path: entry for entry in listing.entries}
        first_of = merge_clusters(first_of, _keys(records, unique, entries))
        pieces = [
            r | _listed(entries[r["path"]], entries[unique[first]["path"]], listing)
            for r, first in zip(unique, first_of, strict=True)
        ]
    pieces = _one_split_a_cluster(pieces, first_of)
    split_conflicts = len(unique) - len(pieces)
    rejected = _rejects(out)
    summary = Summary(
        files=files + sum(rejected.values()),
        pieces=len(pieces),
        notes=sum(record["notes"] for record in pieces),
        exact_duplicates=len(records) - len(unique),
        near_duplicates=near,
        split_conflicts=split_conflicts,
        pseudo_bars=sum(record["has_pseudo_bars"] for record in pieces),
        rejected=rejected,
        splits=dict(Counter(record["split"] for record in pieces)),
    )
    write_manifest(out, pieces, made=asdict(summary))
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
    records: Sequence[dict[str, Any]], unique: Sequence[dict[str, Any]], entries: Mapping[str, ListedFile]
) -> list[tuple[str, ...]]:
    """Return the keys of each unique record, those of its exact duplicates included."""
    keys: dict[str, tuple[str, ...]] = {}
    for record in records:
        keys[record["notes_hash"]] = (*keys.get(record["notes_hash"], ()), *entries[record["path"]].keys)
    return [keys[record["notes_hash"]] for record in unique]


def _listed(entry: ListedFile, first: ListedFile, listing: Listing) -> dict[str, Any]:
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
    """Return the records without those whose near-duplicate is in a split that takes precedence: test, then valid."""
    order = ("test", "valid", "train")
    best: dict[int, str] = {}
    for record, first in zip(records, first_of, strict=True):
        best[first] = min(best.get(first, "train"), record["split"], key=order.index)
    return [record for record, first in zip(records, first_of, strict=True) if record["split"] == best[first]]


def _rejects(out: Path) -> dict[str, int]:
    """Collect the shards' rejects in rejects.jsonl and count them by reason."""
    lines = [
        line for path in sorted((out / "shards").glob("*.rejects.jsonl")) for line in path.read_text().splitlines()
    ]
    write_atomically(out / "rejects.jsonl", "".join(line + "\n" for line in lines).encode())
    return dict(Counter(json.loads(line)["reason"] for line in lines).most_common())
