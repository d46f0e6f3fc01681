"""What a reward job's YAML may say. Knows nothing of Ray."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harmonixr_platform.training.config import Job


class HeadsSpec(Job):
    """The ensemble: how many heads, how wide, and their dropout."""

    count: int = Field(8, ge=1)
    width: int = Field(64, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)


class FitSpec(Job):
    """How to fit; see harmonixr_model.training.reward_loop.RewardTraining."""

    epochs: int = Field(60, ge=1)
    contexts_per_batch: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    patience: int = Field(10, ge=1)


class RewardScaling(Job):
    """Data-parallel workers on CPUs: the trunk is read once a fill, the heads are small."""

    workers: int = Field(1, ge=1)
    cpus_per_worker: int = Field(1, ge=1)


class RewardJob(Job):
    """Fit a reward model to the judgments in the object store."""

    task: Literal["reward"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    trunk: str = Field("champion", description="the infill model to read fills by: an alias or a version")
    storage: str = Field("", description="folder or s3://bucket/prefix; empty: under the state folder")
    seed: int = 0
    min_comparisons: int = Field(30, ge=2)
    held_out: float = Field(0.2, gt=0, lt=1)
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
