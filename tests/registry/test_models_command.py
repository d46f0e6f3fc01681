"""`harmonixr models` from register to rollback, and its one-sentence refusals."""

from pathlib import Path

import pytest
import torch

from harmonixr_model.infill.checkpoint import save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_platform.cli import main


@pytest.fixture(autouse=True)
def _state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARMONIXR_STATE_DIR", str(tmp_path / "state"))


def _checkpoint(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_checkpoint(path, InfillTransformer(InfillConfig(width=16, layers=1, heads=2)), info={})
    return path


def _output(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["models", *arguments]) == status
    out, err = capsys.readouterr()
    return out if status == 0 else err


def test_register_promote_list_and_roll_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    versions = []
    for seed in range(2):
        file = _checkpoint(tmp_path / f"{seed}.safetensors", seed)
        output = _output(capsys, "register", "infill", str(file), "--note", f"number {seed}")
        versions.append(output.split()[2])
        _output(capsys, "promote", "infill", versions[-1])
    listed = _output(capsys, "list")
    assert "infill: 2 versions" in listed
    assert "reward: 0 versions" in listed
    assert f"{versions[1]}" in next(line for line in listed.splitlines() if "champion" in line)
    assert f"is {versions[0]} again" in _output(capsys, "rollback", "infill")
    assert '"number 0"' in _output(capsys, "show", "infill")


def test_refusals_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no infill model is champion yet" in _output(capsys, "show", "infill", status=2)
    assert "no earlier version" in _output(capsys, "rollback", "infill", status=2)
    assert "no such file" in _output(capsys, "register", "infill", str(tmp_path / "none"), status=2)
    (tmp_path / "text").write_text("not weights")
    output = _output(capsys, "register", "infill", str(tmp_path / "text"), status=2)
    assert len(output.strip().splitlines()) == 1
    assert "infill: 0 versions" in _output(capsys)
