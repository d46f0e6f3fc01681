"""What a reward job's YAML may say. Knows nothing of Ray."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harmonixr_model.preference.config import RewardConfig
from harmonixr_model.preference.musical_features import NAMES
from harmonixr_platform.training.config import Job


class HeadsSpec(Job):
    """The ensemble and what it reads; see harmonixr_model.preference.config.RewardConfig. There is no dropout."""

    count: int = Field(8, ge=1)
    width: int = Field(0, ge=0, description="of a head's bent part; 0: linear heads")
    trunk_layers: int = Field(3, ge=0)
    trunk_components: int = Field(8, ge=0)
    music: bool = Field(True, description="read musical measures of fill and context too")

    @model_validator(mode="after")
    def _reads_something(self) -> HeadsSpec:
        if not self.music and not (self.trunk_layers and self.trunk_components):
            raise ValueError("a reward model must read something: `music: true`, or trunk layers and components")
        return self

    def build(self, trunk_width: int) -> RewardConfig:
        """Return the architecture on a trunk of this width."""
        return RewardConfig(
            trunk_width=trunk_width,
            trunk_layers=self.trunk_layers,
            trunk_components=self.trunk_components,
            music_features=len(NAMES) if self.music else 0,
            heads=self.count,
            head_width=self.width,
        )


class FitSpec(Job):
    """How to fit; see harmonixr_model.training.reward_loop.RewardTraining."""

    epochs: int = Field(80, ge=1)
    contexts_per_batch: int = Field(16, ge=1)
    learning_rate: float = Field(2e-2, gt=0)
    penalty: float = Field(1e-2, ge=0)
    patience: int = Field(15, ge=1)


class RewardScaling(Job):
    """Data-parallel workers on CPUs; none: in this process, without Ray."""

    workers: int = Field(1, ge=0)
    cpus_per_worker: int = Field(1, ge=1)


class RewardJob(Job):
    """Fit a reward model to the judgments in the object store."""

    task: Literal["reward"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    trunk: str = Field("champion", description="the infill model to read fills by: an alias or a version")
    storage: str = Field("", description="folder or s3://bucket/prefix; empty: under the state folder")
    seed: int = 0
    min_comparisons: int = Field(30, ge=2)
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the pieces to report on; as much again to stop by")
    held_out_raters: float = Field(0.0, ge=0, lt=1, description="share of the raters to report on apart")
    held_out_version: str = Field("", description="an infill version reported on apart, its fills never fitted to")
    use_simulated: bool = True
    heads: HeadsSpec = HeadsSpec()
    fit: FitSpec = FitSpec()
    scaling: RewardScaling = RewardScaling()
    register_version: bool = Field(True, alias="register")
    register_as: Literal["", "challenger", "champion"] = ""

    @model_validator(mode="after")
    def _check(self) -> RewardJob:
        if self.register_as and not self.register_version:
            raise ValueError("`register_as` needs `register: true`")
        return self
