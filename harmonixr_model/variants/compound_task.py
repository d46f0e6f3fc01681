"""The training task of CompoundTransformer: the examples of InfillTask, grouped into steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harmonixr_model.data.collate import Batch
from harmonixr_model.data.dataset import Example
from harmonixr_model.training.infill_task import (
    LENGTH_MULTIPLE,
    BatchConfig,
    ExampleSource,
    InfillTask,
    bucket,
    is_note,
)
from harmonixr_model.variants.compound import EMPTY, CompoundTransformer, compound_steps


class CompoundTask(InfillTask):
    """InfillTask in steps: a batch holds as many steps as an InfillTask's batch holds tokens."""

    def __init__(
        self, stages: dict[int, ExampleSource], validation: ExampleSource, config: BatchConfig, **options: Any
    ) -> None:
        grouped: dict[int, ExampleSource] = {tokens: _Grouped(source) for tokens, source in stages.items()}
        super().__init__(grouped, _Grouped(validation), config, **options)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum the nats of the target steps; count their tokens and notes."""
        assert isinstance(model, CompoundTransformer)
        nats_N, fields_NS = compound_loss(model, batch)
        return nats_N.sum(), torch.stack(((fields_NS != EMPTY).sum(), is_note(fields_NS).sum()))

    def _collate(self, examples: Sequence[Example]) -> list[Batch]:
        groups = bucket([len(example.tokens) for example in examples], max_tokens=self.config.micro_tokens)
        return [collate_compound([examples[index] for index in group]) for group in groups]


class _Grouped:
    """A source whose examples are grouped into steps."""

    def __init__(self, source: ExampleSource) -> None:
        self._source = source

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return the source's example, grouped."""
        return grouped_example(self._source.example(index, step=step, seed=seed))


def grouped_example(example: Example) -> Example:
    """Group an example into steps: tokens int32 [T, S].

    A step has the coordinates of its last token, but the previous token of its first one.
    """
    steps, starts = compound_steps(example.tokens, example.loss_mask)
    lasts = np.append(starts[1:], len(example.tokens)) - 1
    coordinates = example.coordinates[lasts].copy()
    coordinates[:, 3] = example.coordinates[starts, 3]
    return Example(steps, coordinates, int((starts < example.prefix_length).sum()), example.loss_mask[starts])


def compound_loss(model: CompoundTransformer, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return `CompoundTransformer.losses` of a batch."""
    return model.losses(
        batch.tokens_BT, batch.coordinates_BTK, batch.prefix_length_B, batch.length_B, batch.loss_mask_BT
    )


def collate_compound(examples: Sequence[Example]) -> Batch:
    """Return one padded batch of grouped examples; its `tokens_BT` has a third axis, the fields."""
    lengths = [len(example.tokens) for example in examples]
    longest = -(-max(lengths) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE

    def stacked(arrays: Sequence[np.ndarray], fill: int) -> Tensor:
        whole = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=arrays[0].dtype)
        for row, array in zip(whole, arrays, strict=True):
            row[: len(array)] = array
        return torch.from_numpy(whole)

    return Batch(
        tokens_BT=stacked([example.tokens for example in examples], EMPTY).long(),
        coordinates_BTK=stacked([example.coordinates for example in examples], 0).long(),
        prefix_length_B=torch.tensor([example.prefix_length for example in examples]),
        length_B=torch.tensor(lengths),
        loss_mask_BT=stacked([example.loss_mask for example in examples], 0),
    )
