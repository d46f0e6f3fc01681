"""Control values: their measures on the notes of a cell, and their tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

from harmonixr_model.music.harmony import Chord, Key, quality_of
from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import GridCell
from harmonixr_model.notes.grid import GRID
from harmonixr_model.notes.vocabulary import CHORD_QUALITIES, COMPOSERS, PITCH_CLASSES, STYLES, VOCAB, Block

# Each bin's notes over four quarters. Bins are narrow where one note more or less is heard.
_NOTES_IN_FOUR_QUARTERS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 56)
_DENSITY_EDGES = tuple((low + high) / 2 for low, high in pairwise(_NOTES_IN_FOUR_QUARTERS))
MAX_DENSITY = _NOTES_IN_FOUR_QUARTERS[-1] / 4
MAX_MEAN_POLYPHONY = 1 + (VOCAB.polyphony.size - 1) / 2
_MODES = ("major", "minor")


def measure_density(notes: Sequence[Note], cell: GridCell) -> float:
    """Return the notes per quarter that begin in a cell."""
    return len(notes) * GRID / (cell.end - cell.start)


def measure_polyphony(notes: Sequence[Note], cell: GridCell) -> float | None:
    """Return the mean number of sounding notes over the steps of a cell in which any sounds; None without notes."""
    if not notes:
        return None
    steps = cell.end - cell.start
    change = [0] * (steps + 1)
    for note in notes:
        change[note.onset - cell.start] += 1
        change[min(note.end - cell.start, steps)] -= 1
    sounding = [count for count in accumulate(change[:-1]) if count]
    return sum(sounding) / len(sounding)


def measure_velocity(notes: Sequence[Note], cell: GridCell) -> float | None:
    """Return the mean velocity of a cell's notes; None without notes."""
    return sum(note.velocity for note in notes) / len(notes) if notes else None


def density_token(notes_per_quarter: float) -> int:
    """Return the token of a density."""
    return VOCAB.density[bisect_right(_DENSITY_EDGES, notes_per_quarter * 4)]


def density_of(token: int) -> float:
    """Return a density token's notes per quarter."""
    return _NOTES_IN_FOUR_QUARTERS[VOCAB.density.index(token)] / 4


def polyphony_token(notes_at_once: float) -> int:
    """Return the token of a mean polyphony; bins are half a note wide, from 1."""
    return _nearest(VOCAB.polyphony, 2 * (notes_at_once - 1))


def polyphony_of(token: int) -> float:
    """Return a token's mean polyphony."""
    return 1 + VOCAB.polyphony.index(token) / 2


def mean_velocity_token(velocity: float) -> int:
    """Return the token of a mean velocity; bins are eight wide."""
    return _nearest(VOCAB.velocity_range, (velocity - 4) / 8)


def mean_velocity_of(token: int) -> int:
    """Return a token's mean velocity."""
    return 8 * VOCAB.velocity_range.index(token) + 4


def chord_token(chord: Chord) -> int:
    """Return the token of a chord whose quality is one of CHORD_QUALITIES."""
    quality = quality_of(chord)
    assert quality is not None
    return VOCAB.chord[chord.pitch_classes[0] * len(CHORD_QUALITIES) + CHORD_QUALITIES.index(quality)]


def key_token(key: Key) -> int:
    """Return the token of a key."""
    return VOCAB.key[_MODES.index(key.mode) * len(PITCH_CLASSES) + key.tonic]


def style_token(style: str) -> int:
    """Return the token of one of STYLES."""
    return VOCAB.style[STYLES.index(style)]


def composer_token(composer: str) -> int:
    """Return the token of one of COMPOSERS."""
    return VOCAB.composer[COMPOSERS.index(composer)]


def _nearest(block: Block, value: float) -> int:
    return block[min(max(0, int(value + 0.5)), block.size - 1)]
