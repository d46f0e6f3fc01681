"""Register a trained model with its lineage."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harmonixr_model
from harmonixr_platform.registry import Lineage, Registry, Version


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job: the model's file on this machine, its metadata, its version if it was registered."""

    model: Path
    info: dict[str, Any]
    version: Version | None
    is_promoted: bool = False


def register_model(
    registry: Registry,
    name: str,
    model: Path,
    job: dict[str, Any],
    *,
    data: dict[str, Any],
    metrics: dict[str, float | None],
    parents: tuple[str, ...] = (),
    note: str = "",
) -> Version:
    """Register a model file; `job` holds the settings that made it. Metrics that are not finite are left out."""
    lineage = Lineage(
        data=data,
        config=json.loads(json.dumps(job, default=str)),
        code=code_version(),
        metrics={key: value for key, value in metrics.items() if value is not None and math.isfinite(value)},
        parents=parents,
        note=note,
    )
    return registry.register(name, model, lineage)


def code_version() -> str:
    """Return the version of our code, with the commit where this is a checkout."""
    checkout = Path(harmonixr_model.__file__).parents[1]
    if not (checkout / ".git").exists():
        return harmonixr_model.__version__
    describe = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    result = subprocess.run(describe, capture_output=True, text=True, check=False)
    commit = f"+{result.stdout.strip()}" if result.returncode == 0 else ""
    return f"{harmonixr_model.__version__}{commit}"
