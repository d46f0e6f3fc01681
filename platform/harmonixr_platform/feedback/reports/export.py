"""Export judgments as Parquet and JSON lines, with a manifest and a data card.

`dataset_id` is the hash of the records in a fixed order. The same records give the same id, regardless of the order and
segments in which they were stored. Retracted judgments and erased raters are not included.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.records.reader import Feedback, JudgedPair
from harmonixr_platform.feedback.reports.data_card import data_card
from harmonixr_platform.feedback.reports.export_columns import COLUMNS, table_row
from harmonixr_platform.feedback.studies.store import BegunStudy
from harmonixr_platform.schemas import Strict

FORMAT = 1


class ExportedFile(Strict):
    """One file of the export."""

    name: str
    rows: int
    bytes: int
    sha256: str


class ExportManifest(Strict):
    """The content of an export. `source` has the manifests that were read; the id does not depend on them."""

    format: int = FORMAT
    dataset_id: str
    study: str | None
    definitions: tuple[str, ...]
    exported: datetime
    counts: dict[str, int]
    files: tuple[ExportedFile, ...]
    source: tuple[str, ...]


def export_dataset(
    feedback: Feedback, folder: Path, *, study: str | None, begun: BegunStudy | None, now: datetime
) -> ExportManifest:
    """Write an export of one study or pool, or of all judgments, into `folder`.

    The folder is created if needed, and files of an earlier export are replaced. The manifest is written last, so a
    folder with a manifest is complete. `begun` is the study's definition for the data card. Raises FeedbackError if
    there is nothing to export.
    """
    judged = [one for one in feedback.judged if study is None or one.comparison.pool == study]
    if not judged:
        raise FeedbackError(
            f"no judgments of {study or 'any study'} have been moved; see `harmonixr feedback status` and `move`"
        )
    rows = {"judgments": judgment_rows(judged, feedback), "pairs": pair_rows(judged)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    files = tuple(file for name, table in rows.items() for file in _write(folder, name, table))
    counts = _counts(judged)
    manifest = ExportManifest(
        dataset_id=dataset_id(rows),
        study=study,
        definitions=tuple(sorted({one.comparison.study for one in judged if one.comparison.study})),
        exported=now,
        counts=counts,
        files=files,
        source=feedback.manifests,
    )
    (folder / "README.md").write_text(
        data_card(manifest.dataset_id, counts=counts, judged=judged, begun=begun, study=study), encoding="utf-8"
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def dataset_id(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the hash of all rows of all tables."""
    digest = hashlib.sha256(f"format {FORMAT}\n".encode())
    for name in sorted(rows):
        digest.update(f"{name}\n".encode())
        for row in rows[name]:
            digest.update(_line(row).encode())
    return digest.hexdigest()[:24]


def judgment_rows(judged: Iterable[JudgedPair], feedback: Feedback) -> list[dict[str, Any]]:
    """Return one flat row for each judgment, sorted by id."""
    flags: dict[str, set[str]] = defaultdict(set)
    for flag in feedback.flags:
        flags[flag.judgment_id].add(f"{flag.rule}@{flag.rule_version}")
    rows = [table_row(COLUMNS["judgments"], one) | {"flags": sorted(flags[one.judgment.judgment_id])} for one in judged]
    return sorted(rows, key=lambda row: str(row["judgment_id"]))


def pair_rows(judged: Iterable[JudgedPair]) -> list[dict[str, Any]]:
    """Return one row for each judged pair, with both fills, sorted by id."""
    pairs = {one.pair.pair_id: one.pair for one in judged}
    return [table_row(COLUMNS["pairs"], pair) for _, pair in sorted(pairs.items())]


def _write(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> list[ExportedFile]:
    import pyarrow
    from pyarrow import parquet

    json_lines = folder / f"{name}.jsonl"
    json_lines.write_text("".join(_line(row) for row in rows), encoding="utf-8")
    columnar = folder / f"{name}.parquet"
    table = pyarrow.Table.from_pylist(list(rows), schema=_schema(name))
    parquet.write_table(table, columnar, compression="zstd")
    return [
        ExportedFile(
            name=path.name,
            rows=len(rows),
            bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in (json_lines, columnar)
    ]


def _schema(name: str) -> Any:
    """Return a table's schema, which does not depend on the values, such as missing comments or tags."""
    import pyarrow as pa

    kinds = {
        "text": pa.string(),
        "flag": pa.bool_(),
        "real": pa.float64(),
        "whole": pa.int64(),
        "texts": pa.list_(pa.string()),
        "tokens": pa.list_(pa.list_(pa.int32())),
    }
    return pa.schema([(column.name, kinds[column.kind]) for column in COLUMNS[name]])


def _counts(judged: Sequence[JudgedPair]) -> dict[str, int]:
    roles = Counter(one.comparison.role for one in judged)
    return {
        "judgments": len(judged),
        "pairs": len({one.pair.pair_id for one in judged}),
        "pieces": len({one.pair.piece_id for one in judged}),
        "raters": len({one.judgment.rater for one in judged}),
        "simulated": sum(one.judgment.simulated for one in judged),
        "repeats": roles["repeat"],
        "gold": roles["gold"],
    }


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n"
