"""Initialise the embeddings of control tokens in weights that were trained without controls.

A token that is never a target is pushed down at every step, and with tied weights its embedding learns only that push.
After a run without controls the embeddings of all control tokens had a cosine similarity of 0.996, and 250 steps with
controls did not separate them (docs/log.md). A run that adds controls therefore starts with distinct embeddings.
"""

# V vocabulary, C width, S tokens of one block

from __future__ import annotations

import torch
from torch import Tensor

from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.vocabulary import VOCAB, Block

# Neighbouring values have similar meanings, and get similar embeddings.
_ORDERED = (VOCAB.density, VOCAB.polyphony, VOCAB.velocity_range)
_NAMED = (VOCAB.key, VOCAB.style, VOCAB.composer)
_COMMON_SHARE = 0.5  # of the common vector, which keeps the tokens from being predicted


@torch.no_grad()
def init_control_embeddings(model: InfillTransformer, *, seed: int = 0) -> None:
    """Give every control token its own vector, as long as those of pitches; other embeddings stay unchanged."""
    rows_VC = model.embedding.token.weight
    generator = torch.Generator().manual_seed(seed)
    length = float(rows_VC[VOCAB.pitch.start : VOCAB.pitch.stop].norm(dim=-1).mean())

    def direction(count: int) -> Tensor:
        random = torch.randn(count, rows_VC.shape[1], generator=generator)
        unit: Tensor = random / random.norm(dim=-1, keepdim=True)
        return unit

    for block in _ORDERED:
        ends = direction(2)
        share_S1 = torch.linspace(0, 1, block.size)[:, None]
        _put(
            rows_VC,
            block,
            length * (ends[0] * (share_S1 * torch.pi / 2).cos() + ends[1] * (share_S1 * torch.pi / 2).sin()),
        )
    for block in _NAMED:
        _put(rows_VC, block, length * direction(block.size))
    # The embedding of a chord is the sum of its root's and its quality's.
    roots, qualities = direction(12), direction((VOCAB.chord.size - 1) // 12)
    chords = (roots[:, None] + 0.5 * qualities[None]).reshape(-1, rows_VC.shape[1])
    _put(rows_VC, Block(VOCAB.chord.start, len(chords)), length * chords)


def _put(rows_VC: Tensor, block: Block, rows_SC: Tensor) -> None:
    """Replace the block's rows, and keep a share of their common vector."""
    here = slice(block.start, block.start + len(rows_SC))
    common_C = rows_VC[here].mean(dim=0)
    rows_VC[here] = _COMMON_SHARE * common_C + rows_SC.to(rows_VC)
