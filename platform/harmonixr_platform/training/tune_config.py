"""The settings of a sweep: the YAML files that `harmonixr tune` reads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from harmonixr_platform.training.config import NAME, JobSettings, set_key


class Distribution(JobSettings):
    """The values of a setting: exactly one of a choice, a uniform and a log-uniform range."""

    choice: tuple[int | float | str | bool, ...] = ()
    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one(self) -> Distribution:
        if sum((bool(self.choice), self.uniform is not None, self.loguniform is not None)) != 1:
            raise ValueError("give one of choice: […], uniform: [low, high], loguniform: [low, high]")
        return self


class TuneJob(JobSettings):
    """Sweep settings of an infill job by ASHA. The same name and storage resume an interrupted sweep."""

    task: Literal["tune"]
    name: str = Field(pattern=NAME)
    base: Path = Field(description="the job file that every trial changes; a path relative to this file")
    settings: dict[str, Any] = Field(default_factory=dict, description="changes to the base for all trials, by key.sub")
    space: dict[str, Distribution] = Field(min_length=1, description="what a trial samples, by key.sub of the job file")
    trials: int = Field(default=8, ge=1)
    at_once: int = Field(default=1, ge=1, description="trials that run side by side")
    cpus_per_trial: int = Field(default=1, ge=1)
    gpus_per_trial: float = Field(default=0, ge=0)
    grace_steps: int = Field(ge=1, description="no trial is stopped before this step")
    reduction: int = Field(default=3, ge=2, description="of so many trials one continues at each rung")
    storage: str = ""
    seed: int = 0

    def trial(self, base: dict[str, Any], sampled: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of one trial's infill job; `base` is not changed."""
        values = copy.deepcopy(base)
        for key, value in [*_leaves(self.settings), *sampled.items()]:
            set_key(values, key, value)
        return values

    def example_values(self) -> dict[str, Any]:
        """Return one value of each distribution, to check a trial's settings before the sweep starts."""
        return {
            key: (space.choice or space.uniform or space.loguniform or (0,))[0] for key, space in self.space.items()
        }


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as (key.sub, value), so that a group changes only the settings it names."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
