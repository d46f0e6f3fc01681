"""Train an infill model by DPO on Ray Train: judgments in, a registered model out.

The job never makes its model champion: only the promotion gate does. `fit` trains without Ray.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.preference.pairs import split_by_piece
from harmonixr_model.training.dpo_loop import DpoStep, train_dpo
from harmonixr_platform.feedback.records.reader import Feedback
from harmonixr_platform.registry import Version
from harmonixr_platform.settings import Settings
from harmonixr_platform.training.config import JobError, parse_job, read_job_file
from harmonixr_platform.training.dpo_data import dpo_data
from harmonixr_platform.training.judgment_job import (
    JobInput,
    check_enough,
    fit_on_workers,
    open_input,
    print_message,
    worker_input,
)
from harmonixr_platform.training.model_metrics import kl_divergence
from harmonixr_platform.training.preference_config import DpoJob
from harmonixr_platform.training.ray_trainer import report_checkpoint
from harmonixr_platform.training.registration import JobResult, register_model
from harmonixr_platform.training.reward_data import Comparisons, comparisons_of, windows_of

MODEL = "infill.safetensors"


def run(
    config_path: Path,
    overrides: Sequence[str] = (),
    *,
    settings: Settings | None = None,
    log: Callable[[str], None] = print_message,
) -> JobResult:
    """Run the job of a YAML file.

    Raises JobError when the file is wrong, there are too few judgments or the workers keep failing; RegistryError
    without a model to start from; StoreUnavailable.
    """
    values = read_job_file(config_path, overrides)
    job = parse_job(DpoJob, values, source=str(config_path))
    settings = settings or Settings()
    given = open_input(settings, job.policy)
    comparisons = _comparisons(job, given.feedback)
    check_enough(job, comparisons, given.feedback)
    log(f"{len(comparisons.pairs)} comparisons of {len(comparisons.fills)} fills; from infill {given.base.version}")

    def on_step(step: DpoStep) -> None:
        if step.held_out is not None:
            log(_epoch_text(step))

    if job.scaling.workers:
        checkpoint = fit_on_workers(fit_worker, job, values, given, settings, on_message=on_step)
        with checkpoint.as_directory() as where:
            model, info = load_checkpoint(Path(where) / MODEL)
    else:
        model, info = fit(job, given.registry.fetch(given.base), given.feedback, on_step=on_step)
    file = settings.state_dir / "train" / job.name / MODEL
    info["dpo"]["from"] = {"version": given.base.version, "sha256": given.base.sha256}
    save_checkpoint(file, model, info=info)
    log(_summary(info["dpo"]))
    version = _register(job, given, file, info["dpo"], values) if job.register_version else None
    if version is not None:
        log(
            f"registered: infill {version.version}; "
            f"`harmonixr models promote infill {version.version} --gate platform/configs/gate.yaml` decides on it"
        )
    return JobResult(file, info, version)


def fit_worker(config: dict[str, Any]) -> None:
    """Run on each worker: all ranks read the judgments, share the gaps of a step, and average their gradients."""
    import ray.train

    job = parse_job(DpoJob, config["job"], source="the job")
    torch.set_num_threads(job.scaling.cpus_per_worker)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    given = worker_input(config)

    def on_step(step: DpoStep) -> None:
        if step.held_out is not None:
            ray.train.report({"epoch": step.epoch, **asdict(step.held_out)})
            if rank == 0:
                config["messages"].put(step)

    checkpoint = given.registry.fetch(given.base)
    model, info = fit(job, checkpoint, given.feedback, rank=rank, world=world, on_step=on_step)
    report_checkpoint(
        {"epoch": job.training.epochs, **info["dpo"]["held_out"]},
        lambda folder: save_checkpoint(folder / MODEL, model, info=info),
    )


def fit(
    job: DpoJob,
    checkpoint: Path,
    feedback: Feedback,
    *,
    rank: int = 0,
    world: int = 1,
    on_step: Callable[[DpoStep], None] = lambda step: None,
) -> tuple[InfillTransformer, dict[str, Any]]:
    """Train the model of a checkpoint on judgments, without Ray; return it with its metadata.

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
        on_step(step)
        if step.held_out is not None:
            epochs.append(step)
    best = next(step for step in reversed(epochs) if step.best)
    assert best.held_out is not None
    results = {
        "held_out": asdict(best.held_out),
        "best_epoch": best.epoch,
        "smoothing": training.loss.label_smoothing,
        "kl_nats_a_fill": _divergence(job, comparisons, model, reference) if rank == 0 else None,
        "gaps": len(data.train),
        "held_out_gaps": len(data.held_out),
        "unreadable_fills": data.unreadable,
        "counts": dict(comparisons.counts),
        "data": feedback.data_hash,
        "job": json.loads(job.model_dump_json(by_alias=True)),
    }
    return model, {**info, "dpo": results}


def _comparisons(job: DpoJob, feedback: Feedback) -> Comparisons:
    judged = [item for item in feedback.judged if job.pool in ("", item.comparison.pool)]
    return comparisons_of(judged, use_simulated=job.use_simulated)


def _divergence(
    job: DpoJob, comparisons: Comparisons, model: InfillTransformer, reference: InfillTransformer
) -> float | None:
    """Return KL(model ‖ reference) in nats a fill, from the model's fills of held-out gaps; None without a gap."""
    _, held_out = split_by_piece(comparisons.pairs, held_out=job.held_out, seed=job.seed)
    rows = {comparisons.pairs[i].context_id: comparisons.pairs[i].first for i in held_out}
    decoder, found = Decoder(model), []
    for row in list(rows.values())[: job.sampled_gaps]:
        (window, *later) = windows_of(comparisons.fills[row], max_length=model.config.max_length)
        if not later:
            fills = decoder.generate(
                window.prompt, seeds=range(job.samples), sampling=Sampling(top_p=1.0, copy_strength=0)
            )
            found.append(kl_divergence(model, reference, window.prompt, fills))
    return sum(found) / len(found) if found else None


def _register(job: DpoJob, given: JobInput, file: Path, results: dict[str, Any], values: dict[str, Any]) -> Version:
    version = register_model(
        given.registry,
        "infill",
        file,
        values,
        data={"hash": results["data"], "gaps": results["gaps"], "counts": results["counts"]},
        metrics={
            "held_out_preference_loss": results["held_out"]["preference"],
            "held_out_preference_accuracy": results["held_out"]["accuracy"],
            "kl_nats_a_fill": results["kl_nats_a_fill"],
        },
        parents=(f"infill/{given.base.version}",),
        note="DPO" if results["counts"].get("used") else "DPO on simulated judgments",
    )
    if job.register_as:
        given.registry.promote("infill", version.version, alias=job.register_as, reason=f"trained by job {job.name}")
    return version


def _epoch_text(step: DpoStep) -> str:
    assert step.held_out is not None
    return (
        f"epoch {step.epoch + 1}: held-out preference loss {step.held_out.preference:.3f}, "
        f"{step.held_out.accuracy:.1%} of pairs ranked correctly{' (best)' if step.best else ''}"
    )


def _summary(results: dict[str, Any]) -> str:
    held_out, divergence = results["held_out"], results["kl_nats_a_fill"]
    return (
        f"held out: {held_out['accuracy']:.1%} of pairs ranked correctly, preference loss {held_out['preference']:.3f} "
        f"(chance: 0.693), best epoch {results['best_epoch'] + 1}, label smoothing {results['smoothing']:.3f}, "
        f"divergence from the reference {'not sampled' if divergence is None else f'{divergence:.2f} nats a fill'}"
    )
