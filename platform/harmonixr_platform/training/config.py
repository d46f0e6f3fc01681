"""Job files: what a YAML under platform/configs may say. Knows nothing of Ray; a misspelt key fails with its place."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harmonixr_model.data.dataset import DatasetConfig
from harmonixr_model.errors import HarmonixrError
from harmonixr_model.infill.config import Attending, InfillConfig, sized
from harmonixr_model.prompt.coordinates import PASSAGES
from harmonixr_model.training.infill_task import DEFAULT_DATASET, BatchConfig
from harmonixr_model.training.loop import LoopConfig

JobT = TypeVar("JobT", bound=BaseModel)


class JobError(HarmonixrError):
    """A job file cannot be read, or says what no job understands."""


class Job(BaseModel):
    """Frozen, and nothing but known keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(Job):
    """A named size, and what to change in it."""

    size: Literal["nano", "mini", "small", "base", "large"] = "nano"
    width: int | None = Field(default=None, ge=8)
    layers: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attending: Attending = Field(default="prefix", description="causal: the context too is read from left to right")
    coordinates: bool = Field(default=True, description="tokens say their bar, step, slot and the token before")

    @model_validator(mode="before")
    @classmethod
    def _without_micro(cls, values: Any) -> Any:
        """Ignore `micro: false`, which older job files have; refuse `true`."""
        if not isinstance(values, dict) or "micro" not in values:
            return values
        if values["micro"]:
            raise ValueError("models with MICRO tokens can no longer be trained; leave `micro` out")
        return {name: value for name, value in values.items() if name != "micro"}

    def build(self, max_length: int) -> InfillConfig:
        """Return the architecture."""
        changes = {
            name: getattr(self, name) for name in ("width", "layers", "heads") if getattr(self, name) is not None
        }
        changes |= {"attending": self.attending, "coordinates": self.coordinates}
        return sized(self.size, dropout=self.dropout, max_length=max_length, **changes)


class DataSpec(Job):
    """What examples show; see harmonixr_model.data.dataset.DatasetConfig."""

    passages: int = Field(
        default=DEFAULT_DATASET.passages, ge=0, le=PASSAGES, description="remembered passages of the song"
    )
    transposes: bool = Field(default=True, description="training pieces are heard in other keys too")
    songs_first: float = Field(
        default=0.0, ge=0, lt=1, description="share of the steps that read whole songs, before any gaps"
    )

    def build(self) -> DatasetConfig:
        """Return what every dataset of the job has in common."""
        return replace(DEFAULT_DATASET, passages=self.passages, transposes=self.transposes)

    def deciding(self) -> dict[str, Any]:
        """Return what of this decides a run's weights: nothing where all is as it was before there was a choice."""
        return {} if self == DataSpec() else {"data": self.model_dump(exclude_defaults=True)}


class Composed(Job):
    """A corpus our own composer writes on the spot: no music is needed to try a job."""

    pieces: int = Field(default=24, ge=4)
    seed: int = 0


class Optimisation(Job):
    """How to optimise; see harmonixr_model.training.loop.LoopConfig."""

    steps: int = Field(ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup: int = Field(default=100, ge=0)
    floor: float = Field(default=0.05, ge=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    validate_every: int = Field(default=250, ge=1)
    patience: int = Field(default=0, ge=0, description="validations without improvement before stopping; 0: never")
    loader_workers: int = Field(default=0, ge=0)
    compiles: bool = Field(default=False, alias="compile", description="put the model's layers through torch.compile")


class Batching(Job):
    """Tokens a step over all workers, tokens through the model at once, held-out examples a validation."""

    batch_tokens: int = Field(default=16_384, ge=1)
    micro_tokens: int = Field(default=4_096, ge=1)
    validation_examples: int = Field(default=256, ge=1)


class Scaling(Job):
    """Data-parallel workers: gloo on CPUs, NCCL when each has a GPU.

    With `ddp` each holds the whole model; with `fsdp` weights, gradients and optimizer are spread over them, for models
    that are too large for one.
    """

    workers: int = Field(default=1, ge=1)
    parallel: Literal["ddp", "fsdp"] = "ddp"
    use_gpu: bool = False
    cpus_per_worker: int = Field(
        default=1, ge=1, description="also the threads of its arithmetic, so that runs are repeatable"
    )


class InfillJob(Job):
    """Train an infill model. The same name and storage resume an interrupted run."""

    task: Literal["infill"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    corpus: Path | None = Field(
        default=None, description="a folder written by `harmonixr ingest`, seen by every worker"
    )
    composed: Composed | None = None
    storage: str = Field(
        default="", description="folder or s3://bucket/prefix for checkpoints; empty: under the state folder"
    )
    context: tuple[int, ...] = Field(default=(512, 1024), min_length=1)
    seed: int = 0
    model: ModelSpec = ModelSpec()
    optimisation: Optimisation
    batching: Batching = Batching()
    data: DataSpec = DataSpec()
    scaling: Scaling = Scaling()
    checkpoint_every: int = Field(default=200, ge=1, description="steps between checkpoints")
    pointer_gaps: int = Field(
        default=300, ge=0, description="gaps from which the finished model learns how far to repeat a song; 0: none"
    )
    max_failures: int = Field(default=3, ge=0, description="how often a lost worker is replaced")
    register_as: Literal["", "challenger", "champion"] = Field(
        default="", description="alias to move to the new version"
    )
    register_version: bool = Field(
        default=False, alias="register", description="add the model to the registry at the end"
    )

    @model_validator(mode="after")
    def _check(self) -> InfillJob:
        if (self.corpus is None) == (self.composed is None):
            raise ValueError("give either `corpus: FOLDER` or `composed: {}`")
        if self.register_as and not self.register_version:
            raise ValueError("`register_as` needs `register: true`")
        return self

    def architecture(self) -> InfillConfig:
        """Return the model to train."""
        return self.model.build(max(self.context))

    def loop(self) -> LoopConfig:
        """Return how the loop optimises."""
        return LoopConfig(seed=self.seed, parallel=self.scaling.parallel, **self.optimisation.model_dump())

    def batch(self) -> BatchConfig:
        """Return how the loop's batches are filled."""
        return BatchConfig(seed=self.seed, **self.batching.model_dump())


class Distribution(Job):
    """Where a setting is drawn from: exactly one of these."""

    choice: tuple[int | float | str | bool, ...] = ()
    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one(self) -> Distribution:
        if sum((bool(self.choice), self.uniform is not None, self.loguniform is not None)) != 1:
            raise ValueError("give one of choice: […], uniform: [low, high], loguniform: [low, high]")
        return self


class TuneJob(Job):
    """Sweep settings of an infill job by ASHA. The same name and storage resume an interrupted sweep."""

    task: Literal["tune"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    base: Path = Field(description="the job file that every trial changes, beside this one")
    settings: dict[str, Any] = Field(default_factory=dict, description="changes to the base for all trials: key.sub")
    space: dict[str, Distribution] = Field(min_length=1, description="what a trial draws, by key.sub of the job file")
    trials: int = Field(default=8, ge=1)
    at_once: int = Field(default=1, ge=1, description="trials that run side by side")
    cpus_per_trial: int = Field(default=1, ge=1)
    gpus_per_trial: float = Field(default=0, ge=0)
    grace_steps: int = Field(ge=1, description="no trial is stopped before this step")
    reduction: int = Field(default=3, ge=2, description="of so many trials one goes on at each rung")
    storage: str = ""
    seed: int = 0

    def trial(self, base: dict[str, Any], drawn: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of one trial's infill job; `base` is left alone."""
        values = copy.deepcopy(base)
        for key, value in [*_leaves(self.settings), *drawn.items()]:
            set_key(values, key, value)
        return values


def read_job_file(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML mapping and apply `key.sub=value` overrides, their values read as YAML."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise JobError(f"{path} holds no settings: it should begin with `task: infill` or `task: reward`")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise JobError(f"--set {override}: write it as key=value, for instance optimisation.steps=100")
        set_key(values, key, _yaml_value(text))
    return values


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Walk nested settings as (key.sub, value), so that a group changes what it names and nothing beside it."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _yaml_value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise JobError(f"--set …={text}: not a YAML value: {error}") from error


def parse_job(kind: type[JobT], values: dict[str, Any], *, source: str) -> JobT:
    """Check the settings against a kind of job; a fault is named with its place."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise JobError(f"{source}: {place}: {first['msg']}") from error


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Set `key.sub` in nested settings, in place; groups that are missing are made."""
    *groups, last = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise JobError(f"{key}: {group} is a value, not a group of settings")
    values[last] = value
