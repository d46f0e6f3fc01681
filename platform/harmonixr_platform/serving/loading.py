"""The seam between the Model deployment and an engine: what a loader gives. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmonixr_model.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """An engine on a checkpoint's weights, and the most tokens it takes, prompt and fill together."""

    engine: Engine
    max_length: int


# Makes an engine of a checkpoint file, to run on so many threads.
EngineLoader = Callable[[Path, int], LoadedEngine]
