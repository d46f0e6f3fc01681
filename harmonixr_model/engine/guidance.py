"""Classifier-free guidance (Ho and Salimans 2022): lean further towards the controls than the model does by itself.

A guided candidate is read twice side by side, with its controls and without; what is drawn from the two together both
rows take. Knows nothing of batches.
"""

# R rows, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from harmonixr_model.engine.row import Placed, Row
from harmonixr_model.engine.runner import MAX_CHUNK
from harmonixr_model.prompt.layout import InfillPrompt


def without_controls(prompt: InfillPrompt) -> InfillPrompt:
    """Return the prompt as it would be with no soft control asked; its rules stay those of the first."""
    headers = tuple(_without(header, cell.controls) for header, cell in zip(prompt.headers, prompt.cells, strict=True))
    return replace(
        prompt,
        headers=headers,
        cells=tuple(replace(cell, controls=()) for cell in prompt.cells),
    )


def unasked(row: Row) -> Row:
    """Return the row that reads beside a guided one; the same prefix serves both."""
    return Row(without_controls(row.prompt), row.seed, row.sampling)


def lean(asked_RV: Tensor, plain_RV: Tensor, guidance_R: Sequence[float]) -> Tensor:
    """Return log chances [R, V]: plain + guidance x (asked - plain)."""
    asked_RV, plain_RV = asked_RV.log_softmax(-1), plain_RV.log_softmax(-1)
    guidance_R1 = torch.tensor(guidance_R, device=asked_RV.device)[:, None]
    return plain_RV + guidance_R1 * (asked_RV - plain_RV)


def chunks_of(asked: Row, plain: Row) -> tuple[list[Placed], list[Placed]]:
    """Return what both read next; of the shorter header the last token is kept back until the longer one ends."""
    most = MAX_CHUNK if len(asked.pending) <= MAX_CHUNK else min(MAX_CHUNK, len(plain.pending) - 1)
    return asked.pending[:MAX_CHUNK], plain.pending[:most]


def _without(header: tuple[int, ...], controls: tuple[int, ...]) -> tuple[int, ...]:
    """Return a cell's header less its controls, which stand after TRACK and before what is held."""
    for start in range(len(header) - len(controls) + 1):
        if controls and header[start : start + len(controls)] == controls:
            return header[:start] + header[start + len(controls) :]
    return header
