"""Train an infill model on Ray Train: N data-parallel workers, checkpoints on a folder or S3, exact resume.

The loop itself is harmonixr_model.training.loop; here it gets workers, storage and somebody to report to.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.errors import CheckpointError
from harmonixr_model.evaluation.fit_copy_gate import fit_copy_gate
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.training.infill_task import corpus_task, describe_corpus
from harmonixr_model.training.local_run import estimate_flops, identity, training_info
from harmonixr_model.training.loop import StepMetrics, new_run, train
from harmonixr_model.training.report import MetricsLog, metrics
from harmonixr_model.training.state import Run, load_state, state_of, write_state
from harmonixr_platform.registry import Lineage, Version, open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.training.config import InfillJob, JobError, parse_job, read_job_file
from harmonixr_platform.training.job_corpus import code_version, corpus_folder
from harmonixr_platform.training.mailbox import listening
from harmonixr_platform.training.ray_session import ray_session
from harmonixr_platform.training.storage import RunStorage, open_storage

STATE = "state.pt"
MODEL = "model.safetensors"
JOB = "job.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a job left: the model's file on this machine, what is known of it, its version if it was registered."""

    model: Path
    info: dict[str, Any]
    version: Version | None


def run(
    config_path: Path,
    overrides: Sequence[str] = (),
    *,
    settings: Settings | None = None,
    listen: Callable[[StepMetrics], None] = lambda progress: None,
) -> Trained:
    """Run the job a YAML file describes, from its last checkpoint if there is one; `listen` hears of every step.

    Raises JobError (also when more than `max_failures` workers failed), CorpusError, CheckpointError.
    """
    values = read_job_file(config_path, overrides)
    job = parse_job(InfillJob, values, source=str(config_path))
    settings = settings or Settings()
    storage = open_storage(job.storage, settings)
    corpus = corpus_folder(job, settings)
    data = describe_corpus(corpus)
    deciding = _identity(job)
    _claim(storage, job, deciding | {"data": data})
    log_folder = settings.state_dir / "train" / job.name
    cpus = job.scaling.workers * job.scaling.cpus_per_worker
    with ray_session(cpus=cpus), listening(_Log(log_folder, listen)) as mailbox:
        result = _fit(job, _trainer(job, values, corpus, storage, mailbox))
    model, info = _collect(result.checkpoint, log_folder, corpus, pointer_gaps=job.pointer_gaps)
    version = _register(job, model, info, values, settings) if job.register_version else None
    return Trained(model, info, version)


def _identity(job: InfillJob) -> dict[str, Any]:
    """Return what decides the final weights: a resumed run must have the same."""
    deciding = identity(job.architecture(), job.loop(), job.batch(), job.context)
    deciding |= {"workers": job.scaling.workers, "threads": job.scaling.cpus_per_worker}
    return deciding | job.data.deciding()


def _claim(storage: RunStorage, job: InfillJob, deciding: dict[str, Any]) -> None:
    """Write down what this run is, or see that it is the one begun under this name."""
    name = f"{job.name}/{JOB}"
    begun = storage.read(name)
    if begun is None:
        storage.write(name, json.dumps(deciding, indent=1).encode())
        return
    before = json.loads(begun)
    now = json.loads(json.dumps(deciding))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        raise CheckpointError(
            f"{storage.path}/{job.name} holds a run with other settings ({', '.join(changed)}): "
            "resume with the same ones, or give this one another name"
        )


def _trainer(job: InfillJob, values: dict[str, Any], corpus: Path, storage: RunStorage, mailbox: Any) -> Any:
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = {"GPU": 1} if job.scaling.use_gpu else {}
    return TorchTrainer(
        train_worker,
        train_loop_config={"job": values, "corpus": str(corpus), "mailbox": mailbox},
        torch_config=TorchConfig(backend="nccl" if job.scaling.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.scaling.workers,
            use_gpu=job.scaling.use_gpu,
            resources_per_worker={"CPU": job.scaling.cpus_per_worker, **gpu},
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # type checkers see V1, V2 is in force
            name=job.name,
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            failure_config=FailureConfig(max_failures=job.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def _fit(job: InfillJob, trainer: Any) -> Any:
    from ray.train import TrainingFailedError

    try:
        return trainer.fit()
    except TrainingFailedError as error:
        failures = getattr(error, "worker_failures", None) or {0: error}
        reason = str(next(iter(failures.values()))).strip().splitlines()[-1]
        raise JobError(
            f"job {job.name} failed, {job.max_failures} further tries included: {reason}; "
            "once that is put right, the same command goes on from the last checkpoint"
        ) from error


def train_worker(config: dict[str, Any]) -> None:
    """Run on each worker: the loop from the last checkpoint on. All meet at every report; the first one writes."""
    import ray.train
    from ray.train.torch import get_device

    job = parse_job(InfillJob, config["job"], source="the job")
    # The same threads on every machine: sums are then added in the same order, and a resumed run is exact.
    torch.set_num_threads(job.scaling.cpus_per_worker)
    context = ray.train.get_context()
    rank, world_size, device = context.get_world_rank(), context.get_world_size(), get_device()
    corpus, deciding = Path(config["corpus"]), _identity(job)
    task = corpus_task(
        corpus,
        job.batch(),
        context=job.context,
        steps=job.optimisation.steps,
        rank=rank,
        world_size=world_size,
        dataset=job.data.build(),
        songs_first=job.data.songs_first,
    )
    torch.manual_seed(job.seed)
    run = new_run(InfillTransformer(job.architecture()).to(device), job.loop())
    last = ray.train.get_checkpoint()
    if last is not None:
        with last.as_directory() as folder:
            load_state(Path(folder) / STATE, run, job=deciding)
    values: dict[str, Any] = {"step": run.step}
    flops_estimate = estimate_flops(job.architecture(), job.loop(), device)
    for progress in train(
        run, task, job.loop(), device=device, rank=rank, world_size=world_size, flops_estimate=flops_estimate
    ):
        values = metrics(progress)
        if rank == 0:
            config["mailbox"].post.remote(progress)
        if progress.step % job.checkpoint_every == 0:
            _report(run, values, deciding, rank=rank)
    _report(run, values, deciding, rank=rank, data=describe_corpus(corpus))


def _report(
    run: Run, values: dict[str, Any], deciding: dict[str, Any], *, rank: int, data: dict[str, Any] | None = None
) -> None:
    """Meet the other workers; the first one hands in the state and, given `data` at the end, the finished model."""
    import ray.train

    content = state_of(run, job=deciding)
    model = None if data is None else _best_model(run)
    if rank != 0:
        ray.train.report(values)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_state(Path(folder) / STATE, content)
        if model is not None:
            assert data is not None
            save_checkpoint(Path(folder) / MODEL, model, info=training_info(run, deciding, data))
        ray.train.report(values, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _best_model(run: Run) -> InfillTransformer:
    """Return a model of its own, on the host and in one piece, with the best validated weights or the last ones."""
    assert isinstance(run.model, InfillTransformer)
    weights = run.best_weights or run.weights()
    model = InfillTransformer(run.model.config)
    model.load_state_dict(weights)
    return model


def _collect(checkpoint: Any, folder: Path, corpus: Path, *, pointer_gaps: int) -> tuple[Path, dict[str, Any]]:
    """Bring the finished model to this machine, see that it loads, and calibrate its pointer."""
    with checkpoint.as_directory() as where:
        trained, info = load_checkpoint(Path(where) / MODEL)
    if pointer_gaps:
        trained.copy_gate = fit_copy_gate(trained, Corpus.open(corpus), gaps=pointer_gaps)
    save_checkpoint(folder / MODEL, trained, info=info)
    return folder / MODEL, info


def _register(job: InfillJob, model: Path, info: dict[str, Any], values: dict[str, Any], settings: Settings) -> Version:
    measured = {
        "validation_loss": info["validation_loss"],
        "validation_bits_per_note": info["validation_bits_per_note"],
    }
    registry = open_registry(settings)
    version = registry.register(
        "infill",
        model,
        Lineage(
            data=info["data"],
            config=json.loads(json.dumps(values, default=str)),
            code=code_version(),
            metrics={name: value for name, value in measured.items() if value is not None},
        ),
    )
    if job.register_as:
        registry.promote("infill", version.version, alias=job.register_as, reason=f"trained by job {job.name}")
    return version


class _Log:
    """Hear of each step once: write it down and pass it on. A replaced worker tells some steps again."""

    def __init__(self, folder: Path, listen: Callable[[StepMetrics], None]) -> None:
        self._folder = folder
        self._listen = listen
        self._log: MetricsLog | None = None
        self._last = 0

    def __call__(self, progress: StepMetrics) -> None:
        if self._log is None or progress.step <= self._last:
            self.close()
            self._log = MetricsLog(self._folder, resumed_at=progress.step - 1)
        self._last = progress.step
        self._log.write(progress)
        self._listen(progress)

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
