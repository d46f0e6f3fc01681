"""Collate examples of different lengths into one padded batch of tensors."""

# B examples, T tokens of the longest

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harmonixr_model.data.dataset import Example
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import COORDINATE_SIZES

PAD = VOCAB.id("PAD")


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded examples: int64 tokens and coordinates, lengths, and which tokens carry loss."""

    tokens_BT: Tensor
    coordinates_BTK: Tensor
    prefix_length_B: Tensor
    length_B: Tensor
    loss_mask_BT: Tensor


def collate(examples: Sequence[Example]) -> Batch:
    """Return one batch; padding is PAD with coordinates 0 and carries no loss."""
    longest = max(len(example.tokens) for example in examples)
    tokens_BT = torch.full((len(examples), longest), PAD, dtype=torch.long)
    coordinates_BTK = torch.zeros(len(examples), longest, len(COORDINATE_SIZES), dtype=torch.long)
    loss_mask_BT = torch.zeros(len(examples), longest, dtype=torch.bool)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        tokens_BT[row, :length] = torch.from_numpy(example.tokens)
        coordinates_BTK[row, :length] = torch.from_numpy(example.coordinates)
        loss_mask_BT[row, :length] = torch.from_numpy(example.loss_mask)
    return Batch(
        tokens_BT=tokens_BT,
        coordinates_BTK=coordinates_BTK,
        prefix_length_B=torch.tensor([example.prefix_length for example in examples]),
        length_B=torch.tensor([len(example.tokens) for example in examples]),
        loss_mask_BT=loss_mask_BT,
    )
