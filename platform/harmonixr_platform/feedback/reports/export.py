"""A study as files for others: Parquet and JSON lines with a manifest and a data card. Knows no store and no Redis.

`dataset_id` is the hash of the records themselves in an order of their own: the same records give the same id,
whichever way and however often they arrived. Only judgments that stand are in it; a rater who was erased is not.
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
from harmonixr_platform.feedback.records.reader import Feedback, Judged
from harmonixr_platform.feedback.reports.data_card import data_card
from harmonixr_platform.feedback.reports.export_columns import COLUMNS
from harmonixr_platform.feedback.studies.store import Begun
from harmonixr_platform.schemas import Strict

FORMAT = 1


class ExportedFile(Strict):
    """One file of the export."""

    name: str
    rows: int
    bytes: int
    sha256: str


class ExportManifest(Strict):
    """What an export holds. `source` names the manifests that were read; the id does not depend on them."""

    format: int = FORMAT
    dataset_id: str
    study: str | None
    definitions: tuple[str, ...]
    exported: datetime
    counts: dict[str, int]
    files: tuple[ExportedFile, ...]
    source: tuple[str, ...]


def export_dataset(
    feedback: Feedback, folder: Path, *, study: str | None, begun: Begun | None, now: datetime
) -> ExportManifest:
    """Write a snapshot into `folder`; the manifest comes last, so a folder that has one is whole.

    Args:
        feedback: what was read.
        folder: made when it is not there; files of an earlier export are replaced.
        study: keep this study's or pool's judgments only; None keeps all.
        begun: the study's definition, for the data card.
        now: when this is.

    Raises:
        FeedbackError: there is nothing to export.

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
    """Return the hash of every row of every table."""
    digest = hashlib.sha256(f"format {FORMAT}\n".encode())
    for name in sorted(rows):
        digest.update(f"{name}\n".encode())
        for row in rows[name]:
            digest.update(_line(row).encode())
    return digest.hexdigest()[:24]


def judgment_rows(judged: Iterable[Judged], feedback: Feedback) -> list[dict[str, Any]]:
    """Return one flat row a judgment, in the order of their ids."""
    flags: dict[str, set[str]] = defaultdict(set)
    for flag in feedback.flags:
        flags[flag.judgment_id].add(f"{flag.rule}@{flag.rule_version}")
    return sorted((_judgment_row(one, sorted(flags[one.judgment.judgment_id])) for one in judged), key=_by_id)


def pair_rows(judged: Iterable[Judged]) -> list[dict[str, Any]]:
    """Return one row a pair that was judged, with both fills whole, in the order of their ids."""
    pairs = {one.pair.pair_id: one.pair for one in judged}
    return [
        {
            "pair_id": pair.pair_id,
            "piece_id": pair.piece_id,
            "context_sha256": pair.context_sha256,
            "context_base64": pair.context_base64,
            "region": pair.region.model_dump_json(),
            "controls": pair.controls.model_dump_json(),
            "vocabulary_hash": pair.vocabulary_hash,
        }
        | {
            f"{side}_{name}": value
            for side, candidate in (("first", pair.first), ("second", pair.second))
            for name, value in {
                "model_version": candidate.model_version,
                "checkpoint_sha256": candidate.checkpoint_sha256,
                "sampling": candidate.sampling.model_dump_json(),
                "seed": candidate.seed,
                "tokens": [list(window) for window in candidate.tokens],
                "midi_sha256": candidate.midi_sha256,
                "midi_base64": candidate.midi_base64,
            }.items()
        }
        for _, pair in sorted(pairs.items())
    ]


def _judgment_row(one: Judged, flags: list[str]) -> dict[str, Any]:
    judgment, comparison, pair = one.judgment, one.comparison, one.pair
    arms = comparison.arms or (None, None)
    return {
        "judgment_id": judgment.judgment_id,
        "comparison_id": judgment.comparison_id,
        "pair_id": judgment.pair_id,
        "piece_id": pair.piece_id,
        "rater": judgment.rater,
        "simulated": judgment.simulated,
        "outcome": one.outcome,
        "choice": judgment.choice.value,
        "strength": judgment.strength,
        "tags": [tag.value for tag in judgment.tags],
        "comment": judgment.comment,
        "swapped": comparison.swapped,
        "source": comparison.source,
        "pool": comparison.pool,
        "study": comparison.study,
        "first_arm": arms[0],
        "second_arm": arms[1],
        "first_model": pair.first.model_version,
        "second_model": pair.second.model_version,
        "role": comparison.role,
        "expected": comparison.expected,
        "repeats": comparison.repeats,
        "propensity": comparison.propensity,
        "heard_a": judgment.listening.heard_a,
        "heard_b": judgment.listening.heard_b,
        "seconds": judgment.listening.seconds,
        "switches": judgment.listening.switches,
        "headphones": judgment.listening.headphones,
        "consent": judgment.consent.version if judgment.consent else None,
        "shown": comparison.created.isoformat(),
        "received": judgment.received.isoformat(),
        "flags": flags,
    }


def _write(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> list[ExportedFile]:
    import pyarrow
    from pyarrow import parquet

    lines = folder / f"{name}.jsonl"
    lines.write_text("".join(_line(row) for row in rows), encoding="utf-8")
    columns = folder / f"{name}.parquet"
    table = pyarrow.Table.from_pylist(list(rows), schema=_schema(name))
    parquet.write_table(table, columns, compression="zstd")
    return [
        ExportedFile(
            name=path.name,
            rows=len(rows),
            bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in (lines, columns)
    ]


def _schema(name: str) -> Any:
    """Return a table's columns, so that an export without any comment or tag has the same ones as all others."""
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


def _counts(judged: Sequence[Judged]) -> dict[str, int]:
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


def _by_id(row: Mapping[str, Any]) -> str:
    return str(row["judgment_id"])
