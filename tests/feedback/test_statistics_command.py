"""`harmonixr feedback report` in its three forms, and the flags it records."""

import json
from pathlib import Path
from typing import Any

import pytest

from harmonixr_platform.cli import main
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store


@pytest.fixture
def one_sided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lab: Any) -> Path:
    """A state folder with twelve judgments of one rater, all for side a."""
    monkeypatch.setenv("HARMONIXR_STATE_DIR", str(tmp_path / "state"))
    lab.service = FeedbackService.open(Settings(), now=lab.clock)
    lab.fill_pool(12)
    for _ in range(12):
        lab.judge("a")
    lab.service.close()
    assert main(["feedback", "move"]) == 0
    return tmp_path


def _output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["feedback", "report", "--draws", "20", *arguments]) == 0
    return capsys.readouterr().out


def test_the_report_has_three_forms(one_sided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = _output(capsys)
    assert "side a in 12 of 12 decided judgments" in text
    assert "one rater: unknown" in text
    data = json.loads(_output(capsys, "--json"))
    assert data["panels"][0]["quality"][0]["flags"][0]["rule"] == "one_side"
    page = one_sided / "report.html"
    assert "wrote" in _output(capsys, "--html", str(page))
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads(_output(capsys, "--json", "--study", "default"))["judgments"] == 12
    assert json.loads(_output(capsys, "--json", "--study", "other"))["judgments"] == 0


def test_flags_are_recorded_on_request(one_sided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "recorded 12 new flags" in _output(capsys, "--record-flags")
    assert "recorded 0 new flags" in _output(capsys, "--record-flags")
    mover = Mover.open(Settings())
    mover.run_once()
    mover.close()
    flags = read_feedback(open_object_store(Settings())).flags
    assert {(flag.rule, flag.rule_version) for flag in flags} == {("one_side", 1)}
    assert len(flags) == 12
