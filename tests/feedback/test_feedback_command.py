"""`harmonixr feedback` on a state folder of its own, with the Redis it starts and stops itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from harmonixr_platform.cli import main
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.stores.streams import answers


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


def _says(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["feedback", *arguments]) == status
    out, err = capsys.readouterr()
    return out if status == 0 else err


def test_judgments_are_moved_reported_and_exported(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "6 new" in _says(capsys, "status")
    assert "moved 6 records" in _says(capsys, "move")
    status = _says(capsys, "status")
    assert "0 new, 0 on their way" in status
    assert "pool default: 2 pairs" in status
    report = _says(capsys, "report")
    assert report.startswith("3 judgments (0 simulated) by 1 raters on 2 pairs: 1 a, 1 b, 1 tie")
    assert json.loads(_says(capsys, "report", "--json"))["judgments"] == 3
    said = _says(capsys, "export", "default", "--out", str(judged / "out"))
    manifest = json.loads((judged / "out" / "manifest.json").read_text())
    assert said.startswith(f"dataset {manifest['dataset_id']}: 3 judgments of 2 pairs")
    rows = [json.loads(line) for line in (judged / "out" / "judgments.jsonl").read_text().splitlines()]
    assert sorted(row["choice"] for row in rows) == ["a", "b", "tie"]


def test_the_redis_a_command_starts_is_gone_after_it(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _says(capsys, "status")
    record = json.loads((judged / "state" / "redis" / "server.json").read_text())
    assert not answers(f"redis://:{record['password']}@127.0.0.1:{record['port']}/0")


def test_a_command_beside_a_running_service_uses_its_redis(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with EmbeddedRedis(judged / "state") as running:
        url = running.url()
        _says(capsys, "move")
        assert answers(url)


def test_refusals_are_one_sentence(
    judged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "holds no .mid" in _says(capsys, "pool", str(judged), status=2)
    assert "no such file" in _says(capsys, "pool", str(judged / "none.mid"), status=2)
    monkeypatch.setenv("HARMONIXR_REDIS_URL", "redis://127.0.0.1:9/0")
    assert _says(capsys, "move", status=2).strip().endswith("try again shortly with the same id")
