"""Train an infill model in this process: save the state, the metrics and the finished checkpoint in a folder."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harmonixr_model.data.collate import Batch
from harmonixr_model.errors import CheckpointError
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.control_embedding_init import init_control_embeddings
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.field_tokens import NOTE_FIELDS
from harmonixr_model.prompt.controls import TRAINED
from harmonixr_model.training.flops import batch_flops, peak_of
from harmonixr_model.training.infill_task import DEFAULT_DATASET, BatchConfig, InfillTask, corpus_task, describe_corpus
from harmonixr_model.training.loop import FlopsEstimate, LoopConfig, StepMetrics, new_run, train, uses_bf16
from harmonixr_model.training.report import MetricsLog
from harmonixr_model.training.state import Run, load_state, save_state


@dataclass(frozen=True, slots=True)
class LocalJob:
    """A run on one machine. `out` receives state.pt, metrics.jsonl and model.safetensors.

    `start_from` is a checkpoint of the same architecture with the initial weights; `songs_first` is the share of the
    steps, at the start, that read whole songs.
    """

    corpus: Path
    out: Path
    model: InfillConfig
    loop: LoopConfig
    batch: BatchConfig
    context: tuple[int, ...]
    save_every_s: float = 180.0
    device: str = "cpu"
    start_from: Path | None = None
    songs_first: float = 0.0

    @property
    def checkpoint(self) -> Path:
        """The file of the trained model."""
        return self.out / "model.safetensors"

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the final weights: a resumed run must have the same."""
        settings = identity(self.model, self.loop, self.batch, self.context)
        if self.songs_first:
            settings["songs_first"] = self.songs_first
        if self.start_from is None:
            return settings
        return {**settings, "start_from": hashlib.sha256(self.start_from.read_bytes()).hexdigest()}


def identity(model: InfillConfig, loop: LoopConfig, batch: BatchConfig, context: tuple[int, ...]) -> dict[str, Any]:
    """Return the settings that determine the final weights, without the corpus and the number of loaders."""
    settings = {name: value for name, value in asdict(loop).items() if name != "loader_workers"}
    # Left out at their defaults, so that runs from before these settings resume.
    settings = {name: value for name, value in settings.items() if _LATER.get(name, ...) != value}
    return {"model": model.to_dict(), **settings, **asdict(batch), "context": list(context)}


_LATER = {"compiles": False, "parallel": "ddp"}


def estimate_flops(model: InfillConfig, loop: LoopConfig, device: torch.device) -> FlopsEstimate[Batch]:
    """Return the count of a batch's operations and the machine's peak, for the MFU."""
    return FlopsEstimate(partial(batch_flops, model), peak_of(device, is_bf16=uses_bf16(loop.precision, device)).flops)


def run_local(
    job: LocalJob,
    *,
    is_interrupted: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[StepMetrics]:
    """Train to the end, or until `is_interrupted`; resumes from the last saved state.

    Raises CorpusError for a corpus that cannot be read, CheckpointError for the state of another job or the weights of
    another architecture.
    """
    device = torch.device(job.device)
    task = corpus_task(
        job.corpus,
        job.batch,
        context=job.context,
        steps=job.loop.steps,
        dataset=DEFAULT_DATASET,
        songs_first=job.songs_first,
    )
    torch.manual_seed(job.loop.seed)
    run = new_run(_new_model(job).to(device), job.loop)
    state = job.out / "state.pt"
    if state.is_file():
        load_state(state, run, job=job.identity())
    log = MetricsLog(job.out, resumed_at=run.step)
    saved_at = clock()
    try:
        for progress in train(
            run, task, job.loop, device=device, flops_estimate=estimate_flops(job.model, job.loop, device)
        ):
            log.write(progress)
            must_end = is_interrupted()
            is_last = run.is_stopped or progress.step == job.loop.steps
            if must_end or is_last or clock() - saved_at >= job.save_every_s:
                save_state(state, run, job=job.identity())
                saved_at = clock()
            yield progress
            if must_end:
                return
    finally:
        log.close()
    finish(job, run, task)


def _new_model(job: LocalJob) -> InfillTransformer:
    """Return the model with random weights, or with those of `start_from`; raises CheckpointError."""
    model = InfillTransformer(job.model)
    if job.start_from is None:
        return model
    trained, info = load_checkpoint(job.start_from)
    control_values = trained.config.control_values or job.model.control_values
    # No weight's shape depends on these.
    same = replace(
        trained.config, dropout=job.model.dropout, max_length=job.model.max_length, control_values=control_values
    )
    if same != job.model:
        raise CheckpointError(f"{job.start_from} holds another architecture; start from one of the same size")
    # An older checkpoint has no control embeddings; they start at zero.
    model.load_state_dict(model.state_dict() | trained.state_dict())
    model.copy_gate = trained.copy_gate
    if not info.get("controls_said"):
        init_control_embeddings(model)
    return model


def finish(job: LocalJob, run: Run, task: InfillTask) -> None:
    """Write the best weights with information about the run."""
    run.load_best()
    model = run.model
    assert isinstance(model, InfillTransformer)
    save_checkpoint(job.checkpoint, model, info=training_info(run, job.identity(), describe_corpus(job.corpus)))


def training_info(run: Run, job: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's information about its training: tokens, steps, validation, settings and data."""
    return {
        "tokens_seen": run.tokens,
        "steps": run.step,
        "best_step": run.best_step,
        "validation_loss": _finite(run.best_loss),
        "validation_bits_per_note": _finite(run.best_bits_per_note),
        "parameters": sum(weight.numel() for weight in run.model.parameters()),
        "controls_said": list(TRAINED),
        # `harmonixr calibrate --controls` sets the controls that the model follows, after a measurement.
        "controls": [],
        "fields": list(NOTE_FIELDS),
        "training": job,
        "data": data,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
