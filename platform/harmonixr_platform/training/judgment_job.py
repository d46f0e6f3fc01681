"""The parts that the reward job and the DPO job share: their input, and the run on Ray workers."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harmonixr_model.weights import SHIPPED
from harmonixr_platform.feedback.records.reader import Feedback, read_feedback
from harmonixr_platform.registry import Registry, Version, open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.training.config import JobError
from harmonixr_platform.training.preference_config import JudgmentJob
from harmonixr_platform.training.ray_trainer import train_on_ray
from harmonixr_platform.training.reward_data import Comparisons
from harmonixr_platform.training.storage import open_storage


@dataclass(frozen=True, slots=True)
class JobInput:
    """The registry, the infill model that the job starts from, and the judgments."""

    registry: Registry
    base: Version
    feedback: Feedback


def open_input(settings: Settings, reference: str) -> JobInput:
    """Read the judgments and find the infill model of an alias or a version; raises RegistryError."""
    registry = open_registry(settings)
    if SHIPPED.is_file():
        registry.ensure_shipped(SHIPPED)
    return JobInput(registry, registry.resolve("infill", reference), read_feedback(open_object_store(settings)))


def worker_input(config: dict[str, Any]) -> JobInput:
    """Open the input on a worker; raises JobError when the judgments are not those that the job started with."""
    given = open_input(Settings(state_dir=config["state"]), config["base"])
    if given.feedback.data_hash != config["data"]:
        raise JobError("judgments were moved while the job was starting; run it again")
    return given


def check_enough(job: JudgmentJob, comparisons: Comparisons, feedback: Feedback) -> None:
    """Raise JobError when there are too few comparisons, or they are of one piece."""
    if len(comparisons.pairs) < job.min_comparisons or comparisons.pieces < 2:
        raise JobError(
            f"{len(comparisons.pairs)} usable comparisons of {comparisons.pieces} pieces; {job.min_comparisons} of "
            f"2 pieces or more are needed. {len(feedback.manifests)} segments were read; judge more pairs on the page, "
            "or `harmonixr feedback move` those that still wait in the stream"
        )


def fit_on_workers(
    worker: Callable[[dict[str, Any]], None],
    job: JudgmentJob,
    values: dict[str, Any],
    given: JobInput,
    settings: Settings,
    *,
    on_message: Callable[[Any], None] = lambda message: None,
) -> Any:
    """Run a job's function on Ray workers; return the checkpoint of the first one. `values` is the job file."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
    data = given.feedback.data_hash
    return train_on_ray(
        worker,
        # Secrets stay in the environment: workers build their own settings from it.
        {"job": values, "base": given.base.version, "data": data, "state": settings.state_dir},
        # A fit is short and its data changes: each fit is a run of its own instead of a resumed one.
        name=f"{job.name}-{data[:12]}-{digest}",
        storage=open_storage(job.storage, settings),
        scaling=job.scaling,
        on_message=on_message,
    )


def print_message(text: str) -> None:
    """Print a message of a job to standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  the job's progress
