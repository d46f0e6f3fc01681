"""Save and load a run as one file, so that a resumed run ends with the weights of an uninterrupted one.

The file holds the model, the optimizer and the step, and no random state: schedule, data and dropout are functions of
(seed, step, worker).
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
    """The state of a training run. `step` counts finished optimiser steps; `best_*` belong to the best validation.

    In a sharded run each worker holds a part of the weights, and all workers hold the whole best weights.
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
        """Store the weights if they are the best so far; stop after `patience` worse validations (0: never)."""
        if loss < self.best_loss:
            self.best_loss, self.best_bits_per_note, self.best_step = loss, bits_per_note, self.step
            self.best_weights = self.weights()
            self.validations_since_best = 0
            return
        self.validations_since_best += 1
        self.is_stopped = 0 < patience <= self.validations_since_best

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the current weights on the host; in a sharded run all workers call this together."""
        return {
            name: (whole(weight) if self.is_sharded else weight).detach().cpu().clone()
            for name, weight in self.model.state_dict().items()
        }

    def load_best(self) -> None:
        """Load the best validated weights into the model; without a validation the last ones stay.

        Not for a sharded run: load `best_weights` into a new model.
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
    """Return the content of a state file; in a sharded run all workers call this, and the first one gets the whole."""
    content = {name: getattr(run, name) for name in _PLAIN}
    if run.is_sharded:
        weights, moments = whole_state(run.model, run.optimizer)
    else:
        weights, moments = run.model.state_dict(), run.optimizer.state_dict()
    return content | {"model": weights, "optimizer": moments, "job": job}


def save_state(path: str | os.PathLike[str], run: Run, *, job: dict[str, Any]) -> None:
    """Write the run atomically. `job` is the run's identity, which load_state checks."""
    write_state(path, state_of(run, job=job))


def write_state(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write the content of `state_of` atomically."""
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
    """Load a state file into `run`; raises CheckpointError for another job's state and for a damaged file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a training state; delete it to start again: {error}"
        ) from error
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
