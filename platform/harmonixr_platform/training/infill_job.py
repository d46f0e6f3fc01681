"""Train an infill model on Ray Train: data-parallel workers, checkpoints in a folder or on S3, exact resumption."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harmonixr_model.errors import CheckpointError
from harmonixr_model.evaluation.fit_copy_gate import fit_copy_gate
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.training.infill_task import InfillTask, corpus_task, describe_corpus
from harmonixr_model.training.local_run import estimate_flops, training_info
from harmonixr_model.training.loop import StepMetrics, new_run, train
from harmonixr_model.training.report import MetricsLog, metrics
from harmonixr_model.training.state import Run, load_state, state_of, write_state
from harmonixr_model.variants.selection import (
    DEFAULT_VARIANT,
    build_model,
    open_corpus,
    read_variant_info,
    save_variant,
    task_class,
)
from harmonixr_platform.registry import Version, open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.training.config import InfillJob, parse_job, read_job_file
from harmonixr_platform.training.job_corpus import corpus_folder
from harmonixr_platform.training.ray_trainer import report_checkpoint, train_on_ray
from harmonixr_platform.training.registration import JobResult, register_model
from harmonixr_platform.training.storage import RunStorage, open_storage

STATE = "state.pt"
MODEL = "model.safetensors"
JOB = "job.json"


def run(
    config_path: Path,
    overrides: Sequence[str] = (),
    *,
    settings: Settings | None = None,
    on_step: Callable[[StepMetrics], None] = lambda progress: None,
) -> JobResult:
    """Run the job of a YAML file from its last checkpoint, if there is one; call `on_step` after every step.

    Raises JobError (also when more than `max_failures` workers failed), CorpusError, CheckpointError.
    """
    values = read_job_file(config_path, overrides)
    job = parse_job(InfillJob, values, source=str(config_path))
    settings = settings or Settings()
    storage = open_storage(job.storage, settings)
    corpus = corpus_folder(job, settings)
    _check_same_run(storage, job, _identity(job) | {"data": describe_corpus(corpus)})
    folder = settings.state_dir / "train" / job.name
    with contextlib.closing(_StepLog(folder, on_step)) as log:
        checkpoint = train_on_ray(
            train_worker,
            {"job": values, "corpus": str(corpus)},
            name=job.name,
            storage=storage,
            scaling=job.scaling,
            use_gpu=job.scaling.use_gpu,
            max_failures=job.max_failures,
            on_message=log,
        )
    model, info = _finish_model(job, checkpoint, folder, corpus)
    version = _register(job, model, info, values, settings) if job.register_version else None
    return JobResult(model, info, version)


def _identity(job: InfillJob) -> dict[str, Any]:
    """Return the settings that determine the final weights, the number of workers and threads included."""
    return job.identity() | {"workers": job.scaling.workers, "threads": job.scaling.cpus_per_worker}


def _check_same_run(storage: RunStorage, job: InfillJob, identity: dict[str, Any]) -> None:
    """Record the identity of a new run; refuse to resume a run that has another one."""
    name = f"{job.name}/{JOB}"
    recorded = storage.read(name)
    if recorded is None:
        storage.write(name, json.dumps(identity, indent=1).encode())
        return
    before = json.loads(recorded)
    now = json.loads(json.dumps(identity))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        raise CheckpointError(
            f"{storage.path}/{job.name} holds a run with other settings ({', '.join(changed)}): "
            "resume with the same settings, or give this run another name"
        )


def train_worker(config: dict[str, Any]) -> None:
    """Train on one worker from the last checkpoint. The first worker sends progress messages and checkpoints."""
    import ray.train
    from ray.train.torch import get_device

    job = parse_job(InfillJob, config["job"], source="the job")
    # The same number of threads on every machine: sums are then added in the same order, and a resumed run is exact.
    torch.set_num_threads(job.scaling.cpus_per_worker)
    context = ray.train.get_context()
    rank, world_size, device = context.get_world_rank(), context.get_world_size(), get_device()
    corpus, identity = Path(config["corpus"]), _identity(job)
    task = infill_task(job, corpus, rank=rank, world_size=world_size)
    run = resumed_run(job, device, ray.train.get_checkpoint(), identity)
    values: dict[str, Any] = {"step": run.step}
    is_default = job.model.variant == DEFAULT_VARIANT
    flops_estimate = estimate_flops(job.architecture(), job.loop(), device) if is_default else None
    for progress in train(
        run, task, job.loop(), device=device, rank=rank, world_size=world_size, flops_estimate=flops_estimate
    ):
        values = metrics(progress)
        if rank == 0:
            config["messages"].put(progress)
        if progress.step % job.checkpoint_every == 0:
            _report(job, run, values, identity)
    _report(job, run, values, identity, data=describe_corpus(corpus))


def infill_task(job: InfillJob, corpus: Path, *, rank: int = 0, world_size: int = 1) -> InfillTask:
    """Return the batches and the loss of a job."""
    return corpus_task(
        open_corpus(corpus, single_key=job.data.single_key),
        job.batch(),
        context=job.context,
        steps=job.optimisation.steps,
        rank=rank,
        world_size=world_size,
        dataset=job.data.build(),
        songs_first=job.data.songs_first,
        task_type=task_class(job.model.variant),
    )


def resumed_run(job: InfillJob, device: torch.device, checkpoint: Any, identity: dict[str, Any]) -> Run:
    """Return the run of a Ray checkpoint, or a new one where there is none."""
    torch.manual_seed(job.seed)
    run = new_run(build_model(job.model.variant, job.architecture()).to(device), job.loop())
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            load_state(Path(folder) / STATE, run, job=identity)
    return run


def _report(
    job: InfillJob, run: Run, values: dict[str, Any], identity: dict[str, Any], *, data: dict[str, Any] | None = None
) -> None:
    """Report metrics and the state; with `data`, at the end, the finished model too. Every worker calls this."""
    # Sharded weights are gathered here, so every worker takes part.
    state = state_of(run, job=identity)
    model = None if data is None else best_model(job, run)

    def write(folder: Path) -> None:
        write_state(folder / STATE, state)
        if model is not None and data is not None:
            save_model(folder / MODEL, job, model, info=training_info(run, identity, data))

    report_checkpoint(values, write)


def best_model(job: InfillJob, run: Run) -> nn.Module:
    """Return a whole copy of the model on the host, with the best validated weights or the last ones."""
    weights = run.best_weights or run.weights()
    model = build_model(job.model.variant, job.architecture())
    model.load_state_dict(weights)
    return model


def save_model(path: Path, job: InfillJob, model: nn.Module, *, info: dict[str, Any]) -> None:
    """Write the finished model, a variant in its own format."""
    if isinstance(model, InfillTransformer):
        save_checkpoint(path, model, info=info)
    else:
        save_variant(path, model, job.model.variant, job.architecture(), info=info)


def _finish_model(job: InfillJob, checkpoint: Any, folder: Path, corpus: Path) -> tuple[Path, dict[str, Any]]:
    """Copy the model to this machine, fit its copy gate, and save it. A variant has no copy gate."""
    with checkpoint.as_directory() as where:
        if job.model.variant != DEFAULT_VARIANT:
            shutil.copy(Path(where) / MODEL, folder / MODEL)
            return folder / MODEL, read_variant_info(folder / MODEL)
        model, info = load_checkpoint(Path(where) / MODEL)
    if job.pointer_gaps:
        source = open_corpus(corpus, single_key=job.data.single_key)
        model.copy_gate = fit_copy_gate(model, source, gaps=job.pointer_gaps)
    save_checkpoint(folder / MODEL, model, info=info)
    return folder / MODEL, info


def _register(job: InfillJob, model: Path, info: dict[str, Any], values: dict[str, Any], settings: Settings) -> Version:
    registry = open_registry(settings)
    measures = {name: info[name] for name in ("validation_loss", "validation_bits_per_note")}
    version = register_model(registry, "infill", model, values, data=info["data"], metrics=measures)
    if job.register_as:
        registry.promote("infill", version.version, alias=job.register_as, reason=f"trained by job {job.name}")
    return version


class _StepLog:
    """Write each step to the metrics log and call `on_step`. A replaced worker repeats some steps."""

    def __init__(self, folder: Path, on_step: Callable[[StepMetrics], None]) -> None:
        self._folder = folder
        self._on_step = on_step
        self._log: MetricsLog | None = None
        self._last = 0

    def __call__(self, progress: StepMetrics) -> None:
        if self._log is None or progress.step <= self._last:
            self.close()
            self._log = MetricsLog(self._folder, resumed_at=progress.step - 1)
        self._last = progress.step
        self._log.write(progress)
        self._on_step(progress)

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
