"""What the notes of a cell amount to, in the units of AttributeControls: what fits training examples and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import GridCell
from harmonixr_model.notes.grid import GRID


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
