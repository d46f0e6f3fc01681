"""A study as files: the same records give the same data set, whichever way they came, and nothing erased is in it."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.records.mover import Mover, seal
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.reports.export import ExportManifest, export_dataset
from harmonixr_platform.feedback.reports.export_columns import COLUMNS
from harmonixr_platform.schemas import Flag
from harmonixr_platform.stores.files import FileStore


def export(lab: Any, folder: Path, *, study: str | None = None) -> ExportManifest:
    return export_dataset(read_feedback(lab.store), folder, study=study, begun=None, now=lab.clock())


@pytest.fixture
def judged(lab: Any) -> Any:
    """Three raters, two pools, a retraction and a flag, all moved."""
    lab.fill_pool(3)
    lab.fill_pool(2, pool="other")
    for rater in ("rater-one", "rater-two", "rater-three"):
        for choice in ("a", "tie", "skip"):
            answer = lab.judge(choice, rater=rater)
    lab.service.retract(answer.judgment_id, rater_key="rater-three")
    view = lab.compare("rater-one", "other")
    answer = lab.judgment(view, "b", rater="rater-one", comment="schön", tags=["seam"], simulated=True)
    lab.service.record_judgment(answer)
    lab.service._log.append(
        Flag(flag_id="f1", judgment_id=answer.judgment_id, rule="r", rule_version=2, received=lab.clock())
    )
    Mover(lab.stream, lab.store).run_once()
    return lab


def test_both_formats_have_the_same_rows_and_match_the_manifest(judged: Any, tmp_path: Path) -> None:
    manifest = export(judged, tmp_path / "out")
    assert manifest == ExportManifest.model_validate_json((tmp_path / "out" / "manifest.json").read_text())
    assert manifest.counts | {"judgments": 9, "raters": 3, "simulated": 1} == manifest.counts
    for name in ("judgments", "pairs"):
        lines = [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]
        table = parquet.read_table(tmp_path / "out" / f"{name}.parquet")
        assert table.to_pylist() == lines
        assert table.column_names == [column.name for column in COLUMNS[name]]
        assert all(set(line) == set(table.column_names) for line in lines)
    for file in manifest.files:
        assert hashlib.sha256((tmp_path / "out" / file.name).read_bytes()).hexdigest() == file.sha256
    rows = parquet.read_table(tmp_path / "out" / "judgments.parquet").to_pylist()
    (late,) = [row for row in rows if row["simulated"]]
    assert (late["comment"], late["tags"], late["flags"], late["pool"]) == ("schön", ["seam"], ["r@2"], "other")


def test_every_judged_pair_is_there_once_and_plays(judged: Any, tmp_path: Path) -> None:
    export(judged, tmp_path)
    pairs = {row["pair_id"]: row for row in parquet.read_table(tmp_path / "pairs.parquet").to_pylist()}
    rows = parquet.read_table(tmp_path / "judgments.parquet").to_pylist()
    assert {row["pair_id"] for row in rows} == set(pairs)
    for pair_id, row in pairs.items():
        stored = judged.service.pairs.get(pair_id)
        assert row["second_midi_base64"] == stored.second.midi_base64
        assert row["first_tokens"] == [list(window) for window in stored.first.tokens]


def test_one_study_can_be_exported_alone(judged: Any, tmp_path: Path) -> None:
    assert export(judged, tmp_path, study="other").counts["judgments"] == 1
    with pytest.raises(FeedbackError, match="no judgments of nothing"):
        export(judged, tmp_path, study="nothing")


def test_the_id_is_of_the_records_and_not_of_how_they_arrived(judged: Any, tmp_path: Path) -> None:
    """The same entries carried in other batches, some twice, in any order of arrival, by another mover."""
    first = export(judged, tmp_path / "a")
    entries = _all_entries(judged.store)
    other = FileStore(tmp_path / "other")
    for key in judged.store.list("feedback/pairs/"):
        other.put(key, judged.store.get(key).data)
    rng = random.Random(7)
    batches = [entries[i : i + 4] for i in range(0, len(entries), 3)]
    rng.shuffle(batches)
    for batch in batches:
        seal(other, batch)
    second = export_dataset(read_feedback(other), tmp_path / "b", study=None, begun=None, now=judged.clock())
    assert second.dataset_id == first.dataset_id
    assert [file.sha256 for file in second.files] == [file.sha256 for file in first.files]
    assert second.source != first.source


def test_another_judgment_changes_the_dataset_id(judged: Any, tmp_path: Path) -> None:
    before = export(judged, tmp_path / "a").dataset_id
    assert export(judged, tmp_path / "b").dataset_id == before
    judged.judge("b")
    Mover(judged.stream, judged.store).run_once()
    assert export(judged, tmp_path / "c").dataset_id != before


def test_an_erased_rater_is_in_no_export(judged: Any, tmp_path: Path) -> None:
    pseudonym = judged.service._signer.pseudonym("rater-two")
    export(judged, tmp_path / "before")
    judged.service.erase("rater-two")
    Mover(judged.stream, judged.store).run_once()
    assert export(judged, tmp_path / "after").counts["raters"] == 2
    assert pseudonym in (tmp_path / "before" / "judgments.jsonl").read_text()
    assert not any(pseudonym.encode() in file.read_bytes() for file in (tmp_path / "after").iterdir())


def test_the_data_card_names_programs_consent_and_every_column(judged: Any, tmp_path: Path) -> None:
    manifest = export(judged, tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert manifest.dataset_id in card
    assert "**1 of the 9 judgments were made by programs" in card
    assert "8 under version none recorded" in card
    assert all(f"`{column.name}`" in card for columns in COLUMNS.values() for column in columns)


def _all_entries(store: FileStore) -> list[Any]:
    from harmonixr_platform.feedback.records.mover import SEGMENTS, unpack
    from harmonixr_platform.stores.streams import StreamEntry

    return [
        StreamEntry(entry_id, json.dumps(record))
        for key in store.list(SEGMENTS)
        for entry_id, record in unpack(store.get(key).data)
    ]
