"""Tell apart the tokens of controls in weights that were trained without them. Knows nothing of training.

A token that is never predicted is pushed down at every step, and with tied weights that push is all its embedding
learns: after a run without controls the rows of all of them had a cosine of 0.996 to each other, and 250 further steps
did not part them (docs/log.md). So a run that begins to say controls begins with rows that differ.
"""

# V vocabulary, C width, S tokens of one block

from __future__ import annotations

import torch
from torch import Tensor

from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.vocabulary import VOCAB, Block

# Of these, neighbours mean nearly the same, and begin nearly the same.
_ORDERED = (VOCAB.density, VOCAB.polyphony, VOCAB.velocity_range)
_NAMED = (VOCAB.key, VOCAB.style, VOCAB.composer)
_PUSHED_SHARE = 0.5  # of what keeps them from being predicted


@torch.no_grad()
def init_control_embeddings(model: InfillTransformer, *, seed: int = 0) -> None:
    """Give every control token a row of its own, as long as those of the notes; other rows stay as they are."""
    rows_VC = model.embedding.token.weight
    generator = torch.Generator().manual_seed(seed)
    length = float(rows_VC[VOCAB.pitch.start : VOCAB.pitch.stop].norm(dim=-1).mean())

    def direction(count: int) -> Tensor:
        drawn = torch.randn(count, rows_VC.shape[1], generator=generator)
        unit: Tensor = drawn / drawn.norm(dim=-1, keepdim=True)
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
    # A chord is a root and a quality, and begins as the sum of the two.
    roots, qualities = direction(12), direction((VOCAB.chord.size - 1) // 12)
    chords = (roots[:, None] + 0.5 * qualities[None]).reshape(-1, rows_VC.shape[1])
    _put(rows_VC, Block(VOCAB.chord.start, len(chords)), length * chords)


def _put(rows_VC: Tensor, block: Block, rows_SC: Tensor) -> None:
    """Keep some of what the block's rows have in common: it keeps them from being predicted."""
    here = slice(block.start, block.start + len(rows_SC))
    common_C = rows_VC[here].mean(dim=0)
    rows_VC[here] = _PUSHED_SHARE * common_C + rows_SC.to(rows_VC)
