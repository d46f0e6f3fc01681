"""The flat task as steps of a note each: the same examples, grouped, and their own loss. Knows no arms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from harmonixr_model.data.collate import Batch
from harmonixr_model.data.dataset import Example
from harmonixr_model.training.infill_task import LENGTH_MULTIPLE, ExampleSource, InfillTask, bucket, is_note
from harmonixr_model.variants.compound import NOTHING, CompoundTransformer, steps_of


class InSteps:
    """A source whose examples are grouped: tokens int32 [T, S], all else a step in place of a token."""

    def __init__(self, source: ExampleSource) -> None:
        self._source = source

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return the source's example, grouped."""
        return grouped(self._source.example(index, step=step, seed=seed))


def grouped(example: Example) -> Example:
    """Return an example with a note a step; a step stands where its last token does, after what its first follows."""
    steps, starts = steps_of(example.tokens, example.loss_mask)
    lasts = np.append(starts[1:], len(example.tokens)) - 1
    coordinates = example.coordinates[lasts].copy()
    coordinates[:, 3] = example.coordinates[starts, 3]
    return Example(steps, coordinates, int((starts < example.prefix_length).sum()), example.loss_mask[starts])


class StepTask(InfillTask):
    """Infilling in steps: batches are filled by steps, as many as another arm reads tokens."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum the nats of the steps that carry loss; count the tokens and the notes among them."""
        assert isinstance(model, CompoundTransformer)
        nats_N, fields_NS = step_nats(model, batch)
        return nats_N.sum(), torch.stack(((fields_NS != NOTHING).sum(), is_note(fields_NS).sum()))

    def _collate(self, examples: Sequence[Example]) -> list[Batch]:
        groups = bucket([len(example.tokens) for example in examples], max_tokens=self.config.micro_tokens)
        return [collate_steps([examples[index] for index in group]) for group in groups]


def step_nats(model: CompoundTransformer, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return what CompoundTransformer.nats does of a batch."""
    return model.nats(batch.tokens_BT, batch.coordinates_BTK, batch.prefix_length_B, batch.length_B, batch.loss_mask_BT)


def collate_steps(examples: Sequence[Example]) -> Batch:
    """Return one batch of grouped examples; its `tokens_BT` has a fourth axis, the fields."""
    lengths = [len(example.tokens) for example in examples]
    longest = -(-max(lengths) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE

    def stacked(arrays: Sequence[np.ndarray], fill: int) -> Tensor:
        whole = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=arrays[0].dtype)
        for row, array in zip(whole, arrays, strict=True):
            row[: len(array)] = array
        return torch.from_numpy(whole)

    return Batch(
        tokens_BT=stacked([example.tokens for example in examples], NOTHING).long(),
        coordinates_BTK=stacked([example.coordinates for example in examples], 0).long(),
        prefix_length_B=torch.tensor([example.prefix_length for example in examples]),
        length_B=torch.tensor(lengths),
        loss_mask_BT=stacked([example.loss_mask for example in examples], 0),
    )
