"""The loop's one folder: what each stage left, so that an interrupted run goes on where it stopped. Knows no stage."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.loop.options import LoopOptions


class LoopError(HarmonixrError):
    """The loop's folder holds something else, or a stage cannot go on."""


class StageResults:
    """Stages' results as JSON files under `stages/`, written whole; `state/` is the service's state folder."""

    def __init__(self, path: Path, plan: LoopOptions) -> None:
        self.path = path
        self.state = path / "state"
        self._stages = path / "stages"
        self._stages.mkdir(parents=True, exist_ok=True)
        held = path / "plan.json"
        asked = json.loads(json.dumps(asdict(plan)))
        if held.exists() and json.loads(held.read_text()) != asked:
            raise LoopError(f"{path} holds a loop of another size; give another folder, or remove this one")
        write_whole(held, json.dumps(asked, indent=1))

    def once(self, stage: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what a stage left before, or do it and keep what it returns."""
        file = self._stages / f"{stage}.json"
        if not file.exists():
            write_whole(file, json.dumps(make(), indent=1))
        content: dict[str, Any] = json.loads(file.read_text())
        return content


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
