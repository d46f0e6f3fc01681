"""A run in progress as one file, so that a resumed run ends with the very weights of one never interrupted.

Besides model and optimizer only the step is kept: schedule, data and dropout are functions of (seed, step, worker), so
there is no cursor or random state that could fall out of step. Knows nothing of Ray or of what is trained.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from harmonixr_model.errors import CheckpointError
from harmonixr_model.training.sharding import load_whole_state, whole, whole_state


@dataclass(slots=True)
class Run:
    """What changes while a model learns. `step` optimiser steps are done; `best_*` belong to the best validation.

    Of a sharded run each worker holds a part of the weights; the best ones are kept in one piece by all.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    is_sharded: bool = False
    step: int = 0
    tokens: int = 0
    best_loss: float = math.inf
    best_bits_per_note: float = math.nan
    best_step: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    validations_since_best: int = 0
    is_stopped: bool = False

    def note_validation(self, loss: float, bits_per_note: float, *, patience: int) -> None:
        """Remember the weights when they are the best so far; stop after `patience` validations without (0: never)."""
        if loss < self.best_loss:
            self.best_loss, self.best_bits_per_note, self.best_step = loss, bits_per_note, self.step
            self.best_weights = self.weights()
            self.validations_since_best = 0
            return
        self.validations_since_best += 1
        self.is_stopped = 0 < patience <= self.validations_since_best

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights as they are, on the host; in a sharded run all workers call this together."""
        return {
            name: (whole(weight) if self.is_sharded else weight).detach().cpu().clone()
            for name, weight in self.model.state_dict().items()
        }

    def load_best(self) -> None:
        """Put the best validated weights into the model; without any validation the last ones stay.

        Not for a sharded run: put `best_weights` into a model of its own.
        """
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)


_PLAIN = (
    "step",
    "tokens",
    "best_loss",
    "best_bits_per_note",
    "best_step",
    "best_weights",
    "validations_since_best",
    "is_stopped",
)


def state_of(run: Run, *, job: dict[str, Any]) -> dict[str, Any]:
    """Return what save_state writes; in a sharded run all workers call this together, and the first one gets it all."""
    content = {name: getattr(run, name) for name in _PLAIN}
    if run.is_sharded:
        weights, moments = whole_state(run.model, run.optimizer)
    else:
        weights, moments = run.model.state_dict(), run.optimizer.state_dict()
    return content | {"model": weights, "optimizer": moments, "job": job}


def save_state(path: str | os.PathLike[str], run: Run, *, job: dict[str, Any]) -> None:
    """Write the run whole or not at all. `job` is what decides the outcome; load_state insists on the same."""
    write_state(path, state_of(run, job=job))


def write_state(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write what `state_of` gave, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_state(path: str | os.PathLike[str], run: Run, *, job: dict[str, Any]) -> None:
    """Bring `run` to where the file's run stood; raises CheckpointError when it was another job or is damaged."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read as a training state; delete it to begin anew: {error}") from error
    changed = sorted(key for key in job.keys() | content["job"].keys() if job.get(key) != content["job"].get(key))
    if changed:
        raise CheckpointError(
            f"{path} belongs to a run with other settings ({', '.join(changed)}): "
            "resume with the same ones, or choose another output folder"
        )
    if run.is_sharded:
        load_whole_state(run.model, run.optimizer, content["model"], content["optimizer"])
    else:
        run.model.load_state_dict(content["model"])
        run.optimizer.load_state_dict(content["optimizer"])
    for name in _PLAIN:
        setattr(run, name, content[name])
