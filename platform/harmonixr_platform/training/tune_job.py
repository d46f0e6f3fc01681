"""Sweep an infill job's settings with Ray Tune: ASHA stops bad trials early, and a sweep resumes by its name.

A trial runs in one process, because a sweep has many small runs rather than one over many workers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harmonixr_model.training.loop import train
from harmonixr_model.training.report import metrics
from harmonixr_model.training.state import save_state
from harmonixr_platform.settings import Settings
from harmonixr_platform.training.config import InfillJob, JobError, parse_job, read_job_file
from harmonixr_platform.training.infill_job import STATE, infill_task, resumed_run
from harmonixr_platform.training.job_corpus import corpus_folder
from harmonixr_platform.training.ray_session import ray_session
from harmonixr_platform.training.storage import RunStorage, open_storage
from harmonixr_platform.training.tune_config import Distribution, TuneJob

METRIC = "valid_loss"


@dataclass(frozen=True, slots=True)
class Trial:
    """The settings of one trial and its result; `error` is empty when it ended or was stopped early."""

    settings: dict[str, Any]
    step: int
    valid_loss: float | None
    valid_bits_per_note: float | None
    error: str


def run(config_path: Path, overrides: Sequence[str] = (), *, settings: Settings | None = None) -> list[Trial]:
    """Run the sweep of a YAML file, or the rest of an interrupted one; return its trials, the best first."""
    settings = settings or Settings()
    job = parse_job(TuneJob, read_job_file(config_path, overrides), source=str(config_path))
    base = read_job_file(config_path.parent / job.base)
    parse_job(InfillJob, job.trial(base, job.example_values()), source=f"{config_path}: a trial of {job.base}")
    infill = parse_job(InfillJob, job.trial(base, {}), source=f"{config_path}: settings")
    corpus = corpus_folder(infill, settings)
    storage = open_storage(job.storage, settings)
    with ray_session(cpus=job.at_once * job.cpus_per_trial):
        results = _tuner(job, base, infill, corpus, storage).fit()
        return sorted(map(_trial, results), key=lambda trial: (trial.valid_loss is None, trial.valid_loss))


def _tuner(job: TuneJob, base: dict[str, Any], infill: InfillJob, corpus: Path, storage: RunStorage) -> Any:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import BasicVariantGenerator

    trainable = tune.with_resources(
        tune.with_parameters(train_trial, job=job.model_dump(mode="json"), base=base, corpus=str(corpus)),
        {"CPU": job.cpus_per_trial, "GPU": job.gpus_per_trial},
    )
    place = f"{storage.path}/{job.name}"
    if tune.Tuner.can_restore(place, storage_filesystem=storage.filesystem):
        return tune.Tuner.restore(
            place, trainable, storage_filesystem=storage.filesystem, resume_unfinished=True, resume_errored=True
        )
    return tune.Tuner(
        trainable,
        param_space={key: _tune_space(space) for key, space in job.space.items()},
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="min",
            num_samples=job.trials,
            search_alg=BasicVariantGenerator(max_concurrent=job.at_once, random_state=job.seed),
            scheduler=ASHAScheduler(
                time_attr="step",
                max_t=infill.optimisation.steps,
                grace_period=min(job.grace_steps, infill.optimisation.steps),
                reduction_factor=job.reduction,
            ),
        ),
        run_config=tune.RunConfig(
            name=job.name,
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    )


def _tune_space(space: Distribution) -> Any:
    from ray import tune

    if space.choice:
        return tune.choice(list(space.choice))
    if space.uniform:
        return tune.uniform(*space.uniform)
    if space.loguniform:
        return tune.loguniform(*space.loguniform)
    raise JobError("a distribution needs a choice, a uniform or a loguniform range")


def train_trial(sampled: dict[str, Any], *, job: dict[str, Any], base: dict[str, Any], corpus: str) -> None:
    """Run one trial on a worker from its last checkpoint, and report each validation."""
    from ray import tune

    sweep = parse_job(TuneJob, job, source="the sweep")
    infill = parse_job(InfillJob, sweep.trial(base, sampled), source="the trial")
    torch.set_num_threads(sweep.cpus_per_trial)
    device = torch.device("cuda" if sweep.gpus_per_trial and torch.cuda.is_available() else "cpu")
    task = infill_task(infill, Path(corpus))
    run = resumed_run(infill, device, tune.get_checkpoint(), infill.identity())
    for progress in train(run, task, infill.loop(), device=device):
        if progress.validation is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            save_state(Path(folder) / STATE, run, job=infill.identity())
            tune.report(metrics(progress), checkpoint=tune.Checkpoint.from_directory(folder))


def _trial(result: Any) -> Trial:
    values = result.metrics or {}
    return Trial(
        settings=dict(result.config or {}),
        step=int(values.get("step", 0)),
        valid_loss=values.get(METRIC),
        valid_bits_per_note=values.get("valid_bits_per_note"),
        error="" if result.error is None else str(result.error),
    )
