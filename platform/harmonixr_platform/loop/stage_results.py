"""The loop's folder: the result of each finished stage, so that an interrupted run continues with the next stage."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.loop.options import LoopOptions


class LoopError(HarmonixrError):
    """The folder holds a loop of another size, or a stage cannot continue."""


class StageResults:
    """Results as JSON files under `stages/`; `state/` is the service's state folder."""

    def __init__(self, path: Path, options: LoopOptions) -> None:
        self.path = path
        self.state = path / "state"
        self._stages = path / "stages"
        self._stages.mkdir(parents=True, exist_ok=True)
        file = path / "plan.json"
        stored = json.loads(json.dumps(options.stored()))
        if file.exists() and json.loads(file.read_text()) != stored:
            raise LoopError(f"{path} holds a loop of another size; give another folder, or remove this one")
        write_whole(file, json.dumps(stored, indent=1))

    def once(self, stage: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the stored result of a stage; run the stage first where there is none."""
        file = self._stages / f"{stage}.json"
        if not file.exists():
            write_whole(file, json.dumps(run(), indent=1))
        content: dict[str, Any] = json.loads(file.read_text())
        return content


def write_whole(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
