"""What a DPO job's YAML may say. Knows nothing of Ray."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harmonixr_model.preference.dpo import DpoConfig
from harmonixr_model.training.dpo_loop import DpoTraining
from harmonixr_platform.training.config import Job
from harmonixr_platform.training.reward_config import RewardScaling


class DpoSpec(Job):
    """How to train; see DpoTraining and DpoConfig. `smoothing` left out is measured from repeated judgments."""

    epochs: int = Field(4, ge=1)
    gaps_per_step: int = Field(4, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    warmup: int = Field(10, ge=0)
    clip: float = Field(1.0, gt=0)
    beta: float = Field(0.1, gt=0)
    likelihood: float = Field(0.1, ge=0)
    smoothing: float | None = Field(None, ge=0, lt=0.5)

    def build(self, *, seed: int, measured_noise: float) -> DpoTraining:
        """Return the loop's settings, the smoothing being what was measured where none is given."""
        smoothing = measured_noise if self.smoothing is None else self.smoothing
        return DpoTraining(
            epochs=self.epochs,
            gaps_per_step=self.gaps_per_step,
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            clip=self.clip,
            seed=seed,
            loss=DpoConfig(beta=self.beta, smoothing=smoothing, likelihood=self.likelihood),
        )


class DpoJob(Job):
    """Move an infill model towards what was chosen in the judgments in the object store."""

    task: Literal["dpo"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    policy: str = Field("champion", description="the infill model to begin from, and the reference: alias or version")
    storage: str = Field("", description="folder or s3://bucket/prefix; empty: under the state folder")
    seed: int = 0
    min_comparisons: int = Field(30, ge=2)
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the pieces to choose the best epoch by")
    use_simulated: bool = True
    pool: str = Field("", description="judgments of this pool only; empty: of all pools")
    training: DpoSpec = DpoSpec()
    sampled_gaps: int = Field(8, ge=0, description="held-out gaps to sample in for the divergence from the reference")
    samples: int = Field(8, ge=1, description="fills a gap for it")
    scaling: RewardScaling = RewardScaling()
    register_version: bool = Field(True, alias="register")
    register_as: Literal["", "challenger"] = Field("", description="champion is the gate's to give")

    @model_validator(mode="after")
    def _check(self) -> DpoJob:
        if self.register_as and not self.register_version:
            raise ValueError("`register_as` needs `register: true`")
        return self
