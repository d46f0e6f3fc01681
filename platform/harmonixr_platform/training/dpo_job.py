"""DPO on Ray Train: judgments in, a registered infill model out. It never makes itself champion: the gate does.

`fit` is the same without Ray. Knows nothing of who serves the model.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.preference.pairs import split_by_piece
from harmonixr_model.training.dpo_loop import DpoStep, train_dpo
from harmonixr_platform.feedback.records.reader import Feedback, read_feedback
from harmonixr_platform.registry import Lineage, Version, open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.training.config import JobError, parse_job, read_job_file
from harmonixr_platform.training.dpo_config import DpoJob
from harmonixr_platform.training.dpo_data import dpo_data
from harmonixr_platform.training.job_corpus import code_version
from harmonixr_platform.training.model_metrics import kl_divergence
from harmonixr_platform.training.ray_session import ray_session
from harmonixr_platform.training.reward_data import Comparisons, comparisons_of, windows_of
from harmonixr_platform.training.storage import open_storage

MODEL = "infill.safetensors"


@dataclass(frozen=True, slots=True)
class Preferred:
    """What a job left: the model's file, what it knows of itself, and its version."""

    model: Path
    info: dict[str, Any]
    version: Version | None


def run(
    config_path: Path,
    overrides: Sequence[str] = (),
    *,
    settings: Settings | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201  the job's progress
) -> Preferred:
    """Run the job a YAML file describes.

    Raises JobError when the file is wrong or there are too few judgments, RegistryError without a model to begin from,
    StoreUnavailable; ray.train.TrainingFailedError when workers keep failing.
    """
    values = read_job_file(config_path, overrides)
    job = parse_job(DpoJob, values, source=str(config_path))
    settings = settings or Settings()
    registry = open_registry(settings)
    begun_from = registry.resolve("infill", job.policy)
    feedback = read_feedback(open_object_store(settings))
    comparisons = _comparisons(job, feedback)
    if len(comparisons.pairs) < job.min_comparisons:
        raise JobError(
            f"{len(comparisons.pairs)} usable comparisons, {job.min_comparisons} are needed; judge more pairs, or "
            "`harmonixr feedback move` those that still wait in the stream"
        )
    say(f"{len(comparisons.pairs)} comparisons of {len(comparisons.fills)} fills; from infill {begun_from.version}")
    if job.scaling.workers:
        storage = open_storage(job.storage, settings)
        with ray_session(cpus=job.scaling.workers * job.scaling.cpus_per_worker):
            result = _trainer(job, values, begun_from, feedback, settings, storage).fit()
        if result.error is not None:
            raise result.error
        with result.checkpoint.as_directory() as where:
            model, info = load_checkpoint(Path(where) / MODEL)
    else:
        model, info = fit(job, registry.fetch(begun_from), feedback, tell=lambda step: _say_step(step, say))
    folder = settings.state_dir / "train" / job.name
    info["dpo"]["from"] = {"version": begun_from.version, "sha256": begun_from.sha256}
    save_checkpoint(folder / MODEL, model, info=info)
    say(_sentence(info["dpo"]))
    version = None
    if job.register_version:
        version = registry.register("infill", folder / MODEL, _lineage(info["dpo"], values, begun_from))
        say(f"registered: infill {version.version}; `harmonixr models promote infill {version.version} --gate` asks")
        if job.register_as:
            registry.promote("infill", version.version, alias=job.register_as, reason=f"trained by job {job.name}")
    return Preferred(folder / MODEL, info, version)


def _trainer(
    job: DpoJob, values: dict[str, Any], begun_from: Version, feedback: Feedback, settings: Settings, storage: Any
) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return TorchTrainer(
        fit_worker,
        # Secrets stay in the environment: workers build their own settings from it.
        train_loop_config={
            "job": values,
            "policy": begun_from.version,
            "data": feedback.data_hash,
            "state": settings.state_dir,
        },
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.scaling.workers, resources_per_worker={"CPU": job.scaling.cpus_per_worker}
        ),
        run_config=RunConfig(
            name=f"{job.name}-{feedback.data_hash[:12]}-{digest}",
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            failure_config=FailureConfig(max_failures=1),
        ),
    )


def fit_worker(config: dict[str, Any]) -> None:
    """Run on each worker: all ranks read the judgments, share the gaps of a step, and average their gradients."""
    import ray.train

    job = parse_job(DpoJob, config["job"], source="the job")
    torch.set_num_threads(job.scaling.cpus_per_worker)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    settings = Settings(state_dir=config["state"])
    registry = open_registry(settings)
    begun_from = registry.resolve("infill", config["policy"])
    feedback = read_feedback(open_object_store(settings))
    if feedback.data_hash != config["data"]:
        raise JobError("judgments were moved while the job was starting; run it again")

    def tell(step: DpoStep) -> None:
        if step.held_out is not None:
            ray.train.report({"epoch": step.epoch, **asdict(step.held_out)})

    model, info = fit(job, registry.fetch(begun_from), feedback, rank=rank, world=world, tell=tell)
    with tempfile.TemporaryDirectory() as folder:
        if rank == 0:
            save_checkpoint(Path(folder) / MODEL, model, info=info)
        checkpoint = ray.train.Checkpoint.from_directory(folder) if rank == 0 else None
        ray.train.report({"epoch": job.training.epochs, **info["dpo"]["held_out"]}, checkpoint=checkpoint)


def fit(
    job: DpoJob,
    checkpoint: Path,
    feedback: Feedback,
    *,
    rank: int = 0,
    world: int = 1,
    tell: Callable[[DpoStep], None] = lambda step: None,
) -> tuple[InfillTransformer, dict[str, Any]]:
    """Train the model of a checkpoint on what was judged; return it with what it knows of itself. No Ray is needed.

    Raises JobError when no gap can be read.
    """
    model, info = load_checkpoint(checkpoint)
    reference, _ = load_checkpoint(checkpoint)
    comparisons = _comparisons(job, feedback)
    data = dpo_data(comparisons, max_length=model.config.max_length, held_out=job.held_out, seed=job.seed)
    if not data.train:
        raise JobError("none of the judged fills can be read by this model; choose the one that made them as `policy`")
    training = job.training.build(seed=job.seed, measured_noise=data.noise)
    epochs: list[DpoStep] = []
    for step in train_dpo(model, data.train, held_out=data.held_out, config=training, rank=rank, world=world):
        tell(step)
        if step.held_out is not None:
            epochs.append(step)
    best = next(step for step in reversed(epochs) if step.best)
    assert best.held_out is not None
    learned = {
        "held_out": asdict(best.held_out),
        "best_epoch": best.epoch,
        "smoothing": training.loss.smoothing,
        "kl_nats_a_fill": _divergence(job, comparisons, model, reference) if rank == 0 else None,
        "gaps": len(data.train),
        "held_out_gaps": len(data.held_out),
        "unreadable_fills": data.unreadable,
        "counts": dict(comparisons.counts),
        "data": feedback.data_hash,
        "job": json.loads(job.model_dump_json(by_alias=True)),
    }
    return model, {**info, "dpo": learned}


def _comparisons(job: DpoJob, feedback: Feedback) -> Comparisons:
    asked = [item for item in feedback.judged if job.pool in ("", item.comparison.pool)]
    return comparisons_of(asked, use_simulated=job.use_simulated)


def _divergence(
    job: DpoJob, comparisons: Comparisons, model: InfillTransformer, reference: InfillTransformer
) -> float | None:
    """Return KL(model ‖ reference) in nats a fill, from the model's own fills of held-out gaps; None without any."""
    _, held_out = split_by_piece(comparisons.pairs, held_out=job.held_out, seed=job.seed)
    rows = {comparisons.pairs[i].context_id: comparisons.pairs[i].first for i in held_out}
    engine, found = Decoder(model), []
    for row in list(rows.values())[: job.sampled_gaps]:
        (window, *later) = windows_of(comparisons.fills[row], max_length=model.config.max_length)
        if not later:
            made = engine.generate(
                window.prompt, seeds=range(job.samples), sampling=Sampling(top_p=1.0, copy_strength=0)
            )
            found.append(kl_divergence(model, reference, window.prompt, made))
    return sum(found) / len(found) if found else None


def _lineage(learned: dict[str, Any], values: dict[str, Any], begun_from: Version) -> Lineage:
    measured = {
        "held_out_preference_loss": learned["held_out"]["preference"],
        "held_out_preference_accuracy": learned["held_out"]["accuracy"],
        "kl_nats_a_fill": learned["kl_nats_a_fill"],
    }
    return Lineage(
        data={"hash": learned["data"], "gaps": learned["gaps"], "counts": learned["counts"]},
        config=json.loads(json.dumps(values, default=str)),
        code=code_version(),
        metrics={name: value for name, value in measured.items() if value is not None and math.isfinite(value)},
        parents=(f"infill/{begun_from.version}",),
        note="DPO on simulated judgments" if not learned["counts"].get("used") else "DPO",
    )


def _say_step(step: DpoStep, say: Callable[[str], None]) -> None:
    if step.held_out is not None:
        say(
            f"epoch {step.epoch + 1}: held-out preference loss {step.held_out.preference:.3f}, "
            f"{step.held_out.accuracy:.3f} of pairs right{', the best so far' if step.best else ''}"
        )


def _sentence(learned: dict[str, Any]) -> str:
    held_out, divergence = learned["held_out"], learned["kl_nats_a_fill"]
    return (
        f"held out: {held_out['accuracy']:.3f} of pairs ranked rightly, preference loss {held_out['preference']:.3f} "
        f"(0.693 knows nothing), best epoch {learned['best_epoch'] + 1}, label smoothing {learned['smoothing']:.3f}, "
        f"divergence from the reference {'not sampled' if divergence is None else f'{divergence:.2f} nats a fill'}"
    )
