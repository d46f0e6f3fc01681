"""Job files: read the YAML files under platform/configs and check their keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harmonixr_model.data.dataset import DatasetConfig
from harmonixr_model.errors import HarmonixrError
from harmonixr_model.infill.config import Attending, InfillConfig, sized
from harmonixr_model.prompt.coordinates import PASSAGES
from harmonixr_model.training.infill_task import DEFAULT_DATASET, BatchConfig
from harmonixr_model.training.local_run import identity
from harmonixr_model.training.loop import LoopConfig
from harmonixr_model.variants.selection import DEFAULT_VARIANT, Variant

JobT = TypeVar("JobT", bound=BaseModel)
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class JobError(HarmonixrError):
    """A job file cannot be read, has a wrong key or value, or the job failed."""


class JobSettings(BaseModel):
    """A group of settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Workers(JobSettings):
    """Data-parallel workers on CPUs. Without workers the job runs in this process and starts no Ray."""

    workers: int = Field(default=1, ge=0)
    cpus_per_worker: int = Field(
        default=1, ge=1, description="also the number of its threads: a fixed number makes runs repeatable"
    )


class TrainingJob(JobSettings):
    """The settings that all training jobs share."""

    name: str = Field(pattern=NAME)
    storage: str = Field(
        default="", description="folder or s3://bucket/prefix for checkpoints; empty: under the state folder"
    )
    seed: int = 0
    register_version: bool = Field(default=True, alias="register", description="add the finished model to the registry")
    register_as: Literal["", "challenger", "champion"] = Field(
        default="", description="alias to move to the new version"
    )

    @model_validator(mode="after")
    def _check_registration(self) -> Self:
        if self.register_as and not self.register_version:
            raise ValueError("`register_as` needs `register: true`")
        return self


class ModelSpec(JobSettings):
    """A named size and changes to it."""

    size: Literal["nano", "mini", "small", "base", "large"] = "nano"
    width: int | None = Field(default=None, ge=8)
    layers: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attending: Attending = Field(default="prefix", description="causal: the context too is read from left to right")
    coordinates: bool = Field(
        default=True, description="embed the bar, step, track slot and previous token of each token"
    )
    variant: Variant = Field(
        default=DEFAULT_VARIANT, description="encoder_decoder and compound are for experiments: no engine decodes them"
    )

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


class DataSpec(JobSettings):
    """The content of training examples; see harmonixr_model.data.dataset.DatasetConfig."""

    passages: int = Field(
        default=DEFAULT_DATASET.passages, ge=0, le=PASSAGES, description="similar passages in a prompt"
    )
    transposes: bool = Field(default=True, description="transpose training pieces at random")
    songs_first: float = Field(
        default=0.0, ge=0, lt=1, description="share of the steps, at the beginning, that read whole songs without gaps"
    )
    single_key: bool = Field(default=False, description="transpose all pieces to C major or A minor, for experiments")

    def build(self) -> DatasetConfig:
        """Return the options that all datasets of the job share."""
        transposes = self.transposes and not self.single_key
        return replace(DEFAULT_DATASET, passages=self.passages, transposes=transposes)

    def identity(self) -> dict[str, Any]:
        """Return the changed settings; empty for the defaults, so that runs of older versions can resume."""
        return {} if self == DataSpec() else {"data": self.model_dump(exclude_defaults=True)}


class Composed(JobSettings):
    """A corpus written by the bundled composer, for trying a job without music files."""

    pieces: int = Field(default=24, ge=4)
    seed: int = 0


class Optimisation(JobSettings):
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
    compiles: bool = Field(default=False, alias="compile", description="compile the model's layers with torch.compile")


class Batching(JobSettings):
    """The sizes of batches."""

    batch_tokens: int = Field(default=16_384, ge=1, description="tokens of a step, over all workers")
    micro_tokens: int = Field(default=4_096, ge=1, description="tokens of one forward pass")
    validation_examples: int = Field(default=256, ge=1)


class Scaling(Workers):
    """Data-parallel workers: gloo on CPUs, NCCL when each has a GPU.

    With `ddp` each worker holds the whole model. With `fsdp` weights, gradients and optimizer state are sharded over
    the workers, for models that are too large for one.
    """

    workers: int = Field(default=1, ge=1)
    parallel: Literal["ddp", "fsdp"] = "ddp"
    use_gpu: bool = False


class InfillJob(TrainingJob):
    """Train an infill model. The same name and storage resume an interrupted run."""

    task: Literal["infill"]
    corpus: Path | None = Field(
        default=None, description="a folder written by `harmonixr ingest`, visible to every worker"
    )
    composed: Composed | None = None
    context: tuple[int, ...] = Field(default=(512, 1024), min_length=1, description="tokens; the run has one part each")
    model: ModelSpec = ModelSpec()
    optimisation: Optimisation
    batching: Batching = Batching()
    data: DataSpec = DataSpec()
    scaling: Scaling = Scaling()
    checkpoint_every: int = Field(default=200, ge=1, description="steps between checkpoints")
    pointer_gaps: int = Field(
        default=300, ge=0, description="gaps on which the copy gate of the finished model is fitted; 0: no copy gate"
    )
    max_failures: int = Field(default=3, ge=0, description="how often a lost worker is replaced")
    register_version: bool = Field(
        default=False, alias="register", description="add the finished model to the registry"
    )

    @model_validator(mode="after")
    def _check_corpus(self) -> InfillJob:
        if (self.corpus is None) == (self.composed is None):
            raise ValueError("give either `corpus: FOLDER` or `composed: {}`")
        if self.register_version and self.model.variant != DEFAULT_VARIANT:
            raise ValueError(f"the model variant {self.model.variant} cannot be registered: no engine decodes it")
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

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the final weights: a resumed run must have the same."""
        variant = {} if self.model.variant == DEFAULT_VARIANT else {"variant": self.model.variant}
        settings = identity(self.architecture(), self.loop(), self.batch(), self.context)
        return settings | self.data.identity() | variant


def read_job_file(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML mapping and apply `key.sub=value` overrides, their values read as YAML."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise JobError(f"{path} holds no settings; begin with `task: infill`, `task: reward` or `task: dpo`")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise JobError(f"--set {override}: write it as key=value, for instance optimisation.steps=100")
        set_key(values, key, _yaml_value(text))
    return values


def _yaml_value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise JobError(f"--set …={text}: not a YAML value: {error}") from error


def parse_job(kind: type[JobT], values: dict[str, Any], *, source: str) -> JobT:
    """Check the settings of a job; an error names the key."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise JobError(f"{source}: {place}: {first['msg']}") from error


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Set `key.sub` in nested settings, in place; create missing groups."""
    *groups, last = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise JobError(f"{key}: {group} is a value, not a group of settings")
    values[last] = value
