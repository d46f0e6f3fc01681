"""`harmonixr feedback` on a state folder of its own, with the Redis it starts and stops itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harmonixr_model.infill.checkpoint import save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_platform.cli import main
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.registry import Lineage, open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.stores.streams import is_responding


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lab: Any) -> Path:
    """A state folder with three judgments that nobody has moved."""
    monkeypatch.setenv("HARMONIXR_STATE_DIR", str(tmp_path / "state"))
    lab.service = FeedbackService.open(Settings(), now=lab.clock)
    lab.fill_pool(2)
    for choice in ("a", "b", "tie"):
        lab.judge(choice)
    lab.service.close()
    return tmp_path


def _output(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["feedback", *arguments]) == status
    out, err = capsys.readouterr()
    return out if status == 0 else err


def test_judgments_are_moved_reported_and_exported(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "6 new" in _output(capsys, "status")
    assert "moved 6 records" in _output(capsys, "move")
    status = _output(capsys, "status")
    assert "0 new, 0 in progress" in status
    assert "pool default: 2 pairs" in status
    report = _output(capsys, "report")
    assert report.startswith("3 judgments (0 simulated) by 1 raters on 2 pairs: 1 a, 1 b, 1 tie")
    assert json.loads(_output(capsys, "report", "--json"))["judgments"] == 3
    output = _output(capsys, "export", "default", "--out", str(judged / "out"))
    manifest = json.loads((judged / "out" / "manifest.json").read_text())
    assert output.startswith(f"dataset {manifest['dataset_id']}: 3 judgments of 2 pairs")
    rows = [json.loads(line) for line in (judged / "out" / "judgments.jsonl").read_text().splitlines()]
    assert sorted(row["choice"] for row in rows) == ["a", "b", "tie"]


def test_the_redis_a_command_starts_is_gone_after_it(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _output(capsys, "status")
    record = json.loads((judged / "state" / "redis" / "server.json").read_text())
    assert not is_responding(f"redis://:{record['password']}@127.0.0.1:{record['port']}/0")


def test_a_command_beside_a_running_service_uses_its_redis(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with EmbeddedRedis(judged / "state") as running:
        url = running.url()
        _output(capsys, "move")
        assert is_responding(url)


def test_refusals_are_one_sentence(
    judged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "holds no .mid" in _output(capsys, "pool", str(judged), status=2)
    assert "no such file" in _output(capsys, "pool", str(judged / "none.mid"), status=2)
    monkeypatch.setenv("HARMONIXR_REDIS_URL", "redis://127.0.0.1:9/0")
    assert _output(capsys, "move", status=2).strip().endswith("try again shortly with the same id")


def test_a_study_is_begun_watched_and_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real, tiny model as champion."""
    monkeypatch.setenv("HARMONIXR_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("harmonixr_model.weights.SHIPPED", tmp_path / "none")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny", InfillTransformer(InfillConfig(width=32, layers=1, heads=2)), info={})
    registry = open_registry(Settings())
    registry.promote("infill", registry.register("infill", tmp_path / "tiny", Lineage()).version, alias="champion")
    (tmp_path / "song.mid").write_bytes(compose_song(1))
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: warmth\narms: [{name: cool, sampling: {temperature: 0.7}}, {name: warm}]\n"
        "contexts: {songs: [song.mid], gaps: {per_song: 3, max_bars: 1}}\nquotas: {per_rater: 3}\ngold: {pairs: 2}\n"
    )
    for _ in range(2):
        assert "warm = " in _output(capsys, "study", "begin", str(file))
    assert "study warmth: 3 pairs and" in _output(capsys, "status")
    output = _output(capsys, "study", "status", "warmth")
    assert "0 judgments by 0 raters have been moved" in output
    assert output.endswith("it continues\n")
    file.write_text(file.read_text() + "title: another\n")
    assert "give the new one another name" in _output(capsys, "study", "begin", str(file), status=2)
    assert "no study 'heat' has begun (there is: warmth)" in _output(capsys, "study", "close", "heat", status=2)
    assert "ended" in _output(capsys, "study", "close", "warmth", "--reason", "enough heard")
    assert "enough heard" in _output(capsys, "study", "status", "warmth")


def test_a_rater_is_erased_by_key_or_pseudonym(judged: Path, capsys: pytest.CaptureFixture[str], lab: Any) -> None:
    _output(capsys, "move")
    assert _output(capsys, "erase", "a-key-that-nobody-has").startswith("erased: 0 records")
    # Three comparisons and their three judgments.
    assert _output(capsys, "erase", lab.rater).startswith("erased: 6 records")
    assert "no judgments of any study" in _output(capsys, "export", "--out", str(judged / "out"), status=2)
    assert _output(capsys, "erase", "--again").startswith("erased: 0 records")
