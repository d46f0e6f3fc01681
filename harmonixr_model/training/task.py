"""What the loop needs to know of a task: batches by step, and a loss that adds up. Knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from harmonixr_model.infill.metrics import LossSum

BatchT = TypeVar("BatchT")


class Task(Protocol[BatchT]):
    """Batches keyed by step, so that a resumed run draws what the uninterrupted one would have drawn."""

    def batches(self, step: int) -> Sequence[BatchT]:
        """Return this worker's micro-batches of one optimiser step: a function of the step alone."""
        ...

    def validation(self) -> Iterable[BatchT]:
        """Return this worker's share of the validation batches, the same each time."""
        ...

    def to(self, batch: BatchT, device: torch.device) -> BatchT:
        """Move a batch to a device."""
        ...

    def weight(self, batch: BatchT) -> int:
        """Say how many terms the batch's loss will sum, before it is computed: steps are averaged over them."""
        ...

    def tokens(self, batch: BatchT) -> int:
        """Say how many tokens the batch makes the model read, padding left out."""
        ...

    def loss(self, model: nn.Module, batch: BatchT) -> tuple[Tensor, Tensor]:
        """Return the summed loss to differentiate, and [tokens, notes] it was summed over as a tensor [2]."""
        ...


def nats(loss_sum: Tensor, counts_2: Tensor) -> LossSum:
    """Bring a task's loss and counts to the host."""
    tokens, notes = counts_2.tolist()
    return LossSum(float(loss_sum), int(tokens), int(notes))
