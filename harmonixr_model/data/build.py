"""Finish a corpus from its shards: leave out duplicates, identify pieces, split them, and write the manifest."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harmonixr_model.data.corpus import SPLITS, shard_records, write_atomically, write_manifest
from harmonixr_model.data.dedup import merge_clusters, near_duplicates
from harmonixr_model.data.loaders.listing import ListedFile, Listing, read_table
from harmonixr_model.data.splits import split_of, split_of_given
from harmonixr_model.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of an ingest."""

    files: int  # that were read, rejects included
    pieces: int  # in the corpus
    notes: int  # of these pieces
    exact_duplicates: int  # files left out because another has the same notes
    near_duplicates: int  # pieces that share the piece_id of a similar earlier piece
    split_conflicts: int  # pieces left out because a given manifest holds out a near-duplicate of theirs
    pseudo_bars: int  # pieces without a usable metre
    rejected: dict[str, int]  # files by reason
    splits: dict[str, int]  # pieces by split


def read_given_manifest(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a manifest by path; it needs the columns path, piece_id and split; raises CorpusError."""
    rows = read_table(path, {"path", "piece_id", "split"}, remedy="give a CSV with path, piece_id and split")
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
    by_hash: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        by_hash[record["notes_hash"]].append(record)
    unique = [copies[0] for copies in by_hash.values()]
    first_of = near_duplicates([record["fingerprint"] for record in unique])
    near = sum(first != i for i, first in enumerate(first_of))
    if listing is None:
        pieces = [r | _identity(r, unique[first], given) for r, first in zip(unique, first_of, strict=True)]
    else:
        entries = {entry.path: entry for entry in listing.entries}
        keys = [[key for copy in copies for key in entries[copy["path"]].keys] for copies in by_hash.values()]
        first_of = merge_clusters(first_of, keys)
        pieces = [
            r | _listed(entries[r["path"]], entries[unique[first]["path"]], listing)
            for r, first in zip(unique, first_of, strict=True)
        ]
    pieces = _one_split_a_cluster(pieces, first_of)
    rejected = _rejects(out)
    summary = Summary(
        files=files + sum(rejected.values()),
        pieces=len(pieces),
        notes=sum(record["notes"] for record in pieces),
        exact_duplicates=len(records) - len(unique),
        near_duplicates=near,
        split_conflicts=len(unique) - len(pieces),
        pseudo_bars=sum(record["has_pseudo_bars"] for record in pieces),
        rejected=rejected,
        splits=dict(Counter(record["split"] for record in pieces)),
    )
    write_manifest(out, pieces, made=asdict(summary))
    return summary


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
    text = "".join(path.read_text() for path in sorted((out / "shards").glob("*.rejects.jsonl")))
    write_atomically(out / "rejects.jsonl", text.encode())
    return dict(Counter(json.loads(line)["reason"] for line in text.splitlines()).most_common())
