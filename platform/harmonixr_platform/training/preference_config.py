"""The settings of the jobs that train on judgments: reward model and DPO."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harmonixr_model.preference.config import RewardConfig
from harmonixr_model.preference.dpo import DpoConfig
from harmonixr_model.preference.musical_features import NAMES
from harmonixr_model.training.dpo_loop import DpoTraining
from harmonixr_platform.training.config import JobSettings, TrainingJob, Workers


class JudgmentJob(TrainingJob):
    """The settings that both jobs share."""

    min_comparisons: int = Field(default=30, ge=2, description="with fewer usable comparisons the job refuses")
    use_simulated: bool = Field(default=True, description="use the judgments made by programs too")
    scaling: Workers = Workers()


class HeadsSpec(JobSettings):
    """The ensemble and its input; see harmonixr_model.preference.config.RewardConfig. There is no dropout."""

    count: int = Field(8, ge=1)
    width: int = Field(0, ge=0, description="of a head's nonlinear part; 0: linear heads")
    trunk_layers: int = Field(3, ge=0)
    trunk_components: int = Field(8, ge=0)
    music: bool = Field(True, description="read musical measures of fill and context too")

    @model_validator(mode="after")
    def _check_input(self) -> HeadsSpec:
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


class FitSpec(JobSettings):
    """How to fit; see harmonixr_model.training.reward_loop.RewardTraining."""

    epochs: int = Field(80, ge=1)
    contexts_per_batch: int = Field(16, ge=1)
    learning_rate: float = Field(2e-2, gt=0)
    penalty: float = Field(1e-2, ge=0)
    patience: int = Field(15, ge=1)


class RewardJob(JudgmentJob):
    """Fit a reward model to the judgments in the object store."""

    task: Literal["reward"]
    trunk: str = Field("champion", description="the infill model whose features are read: an alias or a version")
    held_out: float = Field(
        0.2, gt=0, lt=1, description="share of the pieces for the report; as many for early stopping"
    )
    held_out_raters: float = Field(0.0, ge=0, lt=1, description="share of the raters to report on separately")
    held_out_version: str = Field("", description="an infill version to report on separately and not to train on")
    heads: HeadsSpec = HeadsSpec()
    fit: FitSpec = FitSpec()


class DpoSpec(JobSettings):
    """How to train; see DpoTraining and DpoConfig. Without `smoothing` it is measured on repeated judgments."""

    epochs: int = Field(4, ge=1)
    gaps_per_step: int = Field(4, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    warmup: int = Field(10, ge=0)
    clip: float = Field(1.0, gt=0)
    beta: float = Field(0.1, gt=0)
    likelihood: float = Field(0.1, ge=0)
    smoothing: float | None = Field(None, ge=0, lt=0.5)

    def build(self, *, seed: int, measured_noise: float) -> DpoTraining:
        """Return the loop's settings; `measured_noise` is the smoothing where none is given."""
        loop = self.model_dump(exclude={"beta", "likelihood", "smoothing"})
        smoothing = measured_noise if self.smoothing is None else self.smoothing
        loss = DpoConfig(beta=self.beta, label_smoothing=smoothing, rpo_alpha=self.likelihood)
        return DpoTraining(**loop, seed=seed, loss=loss)


class DpoJob(JudgmentJob):
    """Train an infill model on the preferences in the judgments of the object store."""

    task: Literal["dpo"]
    policy: str = Field("champion", description="the initial model and the reference: an alias or a version")
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the pieces that choose the best epoch")
    pool: str = Field("", description="judgments of this pool only; empty: of all pools")
    training: DpoSpec = DpoSpec()
    sampled_gaps: int = Field(8, ge=0, description="held-out gaps to sample in for the divergence from the reference")
    samples: int = Field(8, ge=1, description="samples of each of these gaps")
    register_as: Literal["", "challenger"] = Field("", description="only the promotion gate makes a champion")
