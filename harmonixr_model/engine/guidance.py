"""Classifier-free guidance (Ho and Salimans 2022): strengthen the effect of a prompt's attribute controls.

The model reads a guided candidate twice: with its controls (the conditional row) and without (the unconditional row).
A token is sampled from both rows' logits together, and both rows append it.
"""

# R rows, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from harmonixr_model.engine.row import PlacedToken, Row
from harmonixr_model.engine.runner import MAX_CHUNK
from harmonixr_model.prompt.layout import InfillPrompt


def without_controls(prompt: InfillPrompt) -> InfillPrompt:
    """Return the prompt without its attribute controls; the tables of its grammar are unchanged."""
    headers = tuple(_without(header, cell.controls) for header, cell in zip(prompt.headers, prompt.cells, strict=True))
    return replace(
        prompt,
        headers=headers,
        cells=tuple(replace(cell, controls=()) for cell in prompt.cells),
    )


def unconditional_row(row: Row) -> Row:
    """Return the row without controls that accompanies a guided one; both share the prefix."""
    return Row(without_controls(row.prompt), row.seed, row.sampling)


def apply_guidance(conditional_RV: Tensor, unconditional_RV: Tensor, scale_R: Sequence[float]) -> Tensor:
    """Return log probabilities [R, V]: unconditional + scale x (conditional - unconditional)."""
    conditional_RV, unconditional_RV = conditional_RV.log_softmax(-1), unconditional_RV.log_softmax(-1)
    scale_R1 = torch.tensor(scale_R, device=conditional_RV.device)[:, None]
    return unconditional_RV + scale_R1 * (conditional_RV - unconditional_RV)


def next_chunks(conditional: Row, unconditional: Row) -> tuple[list[PlacedToken], list[PlacedToken]]:
    """Return the tokens that each row feeds next.

    The unconditional row has the shorter header. Its last token waits until the longer header has been fed, because
    the logits after both last tokens are needed in the same step.
    """
    is_last = len(conditional.pending) <= MAX_CHUNK
    size = MAX_CHUNK if is_last else min(MAX_CHUNK, len(unconditional.pending) - 1)
    return conditional.pending[:MAX_CHUNK], unconditional.pending[:size]


def _without(header: tuple[int, ...], controls: tuple[int, ...]) -> tuple[int, ...]:
    """Return a cell's header without its controls, which follow TRACK and precede held notes."""
    for start in range(len(header) - len(controls) + 1):
        if controls and header[start : start + len(controls)] == controls:
            return header[:start] + header[start + len(controls) :]
    return header
