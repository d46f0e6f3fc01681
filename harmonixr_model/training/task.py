"""The interface between the training loop and a task: batches by step, and a loss that is summed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from harmonixr_model.infill.metrics import LossSum

BatchT = TypeVar("BatchT")


class Task(Protocol[BatchT]):
    """Batches depend on the step alone, so that a resumed run has the batches of an uninterrupted one."""

    def batches(self, step: int) -> Sequence[BatchT]:
        """Return this worker's micro-batches of one optimiser step."""
        ...

    def validation(self) -> Iterable[BatchT]:
        """Return this worker's share of the validation batches, the same each time."""
        ...

    def to(self, batch: BatchT, device: torch.device) -> BatchT:
        """Move a batch to a device."""
        ...

    def weight(self, batch: BatchT) -> int:
        """Count the terms of the batch's summed loss; a step averages over the terms of all its batches."""
        ...

    def tokens(self, batch: BatchT) -> int:
        """Count the tokens that the model reads, without padding."""
        ...

    def loss(self, model: nn.Module, batch: BatchT) -> tuple[Tensor, Tensor]:
        """Return the summed loss, and the number of its tokens and notes as a tensor [2]."""
        ...


def loss_sum(loss: Tensor, counts_2: Tensor) -> LossSum:
    """Return a task's loss and counts as numbers."""
    tokens, notes = counts_2.tolist()
    return LossSum(float(loss), int(tokens), int(notes))
