"""How much a DENSITY, POLYPHONY or VELRANGE token stands for, and the token for an amount. Knows no score."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from harmonixr_model.notes.vocabulary import VOCAB, Block

# The notes of four quarters that stand for each bin; finer where a note more or less is heard.
_NOTES_A_WHOLE = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 56)
_DENSITY_EDGES = tuple((one + two) / 2 for one, two in pairwise(_NOTES_A_WHOLE))
MOST_DENSITY = _NOTES_A_WHOLE[-1] / 4
MOST_POLYPHONY = 1 + (VOCAB.polyphony.size - 1) / 2


def density_token(notes_a_quarter: float) -> int:
    """Return the token of a density."""
    return VOCAB.density[bisect_right(_DENSITY_EDGES, notes_a_quarter * 4)]


def density_of(token: int) -> float:
    """Return the notes a quarter that stand for a density token."""
    return _NOTES_A_WHOLE[VOCAB.density.index(token)] / 4


def polyphony_token(notes_at_once: float) -> int:
    """Return the token of a mean polyphony: half notes at once from 1 on."""
    return _nearest(VOCAB.polyphony, 2 * (notes_at_once - 1))


def polyphony_of(token: int) -> float:
    """Return the mean polyphony that stands for a token."""
    return 1 + VOCAB.polyphony.index(token) / 2


def velocity_token(velocity: float) -> int:
    """Return the token of a mean velocity, in bins of eight."""
    return _nearest(VOCAB.velocity_range, (velocity - 4) / 8)


def velocity_range_of(token: int) -> int:
    """Return the mean velocity that stands for a token."""
    return 8 * VOCAB.velocity_range.index(token) + 4


def _nearest(block: Block, value: float) -> int:
    return block[min(max(0, int(value + 0.5)), block.size - 1)]
