"""Count what breaks a hard limit, looking at the notes alone: no table of the grammar is used to judge it.

Knows nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from harmonixr_model.evaluation.metrics import Fills
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.score import Bar, Note
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell

SCALES = tuple(tuple(sorted((step + tonic) % 12 for step in (0, 2, 4, 5, 7, 9, 11))) for tonic in range(12))


def draw_limits(rng: np.random.Generator) -> Constraints:
    """Draw limits that bind: about half of them each time, sometimes more than the gap has room for."""
    says = rng.random(6) < 0.5
    low = int(rng.integers(30, 70))
    softest = int(rng.integers(1, 100))
    least = int(rng.integers(0, 5))
    return Constraints(
        pitch_min=low if says[0] else 0,
        pitch_max=low + int(rng.integers(12, 40)) if says[0] else 127,
        scale=SCALES[int(rng.integers(12))] if says[1] else None,
        max_polyphony=int(rng.integers(1, 5)) if says[2] else None,
        min_notes_per_bar=least if says[3] else None,
        max_notes_per_bar=least + int(rng.integers(0, 8)) if says[4] else None,
        velocity_min=softest if says[5] else 1,
        velocity_max=min(127, softest + int(rng.integers(0, 40))) if says[5] else 127,
    )


def violations(
    context: EncodedScore, cells: Sequence[GridCell], fills: Fills, limits: Constraints, *, bars: Sequence[Bar]
) -> Counter[str]:
    """Return how many notes, or bars, break each limit; `context` holds what was kept, `fills` the notes of each cell.

    A limit that what is kept breaks already cannot be kept: notes that were there are not counted against a fill.
    """
    broken: Counter[str] = Counter()
    for cell, notes in zip(cells, fills, strict=True):
        for note in notes:
            broken += _of_note(note, cell, limits, is_drum=context.tracks[cell.track].is_drum)
    for track in {cell.track for cell in cells}:
        made = [note for cell, notes in zip(cells, fills, strict=True) if cell.track == track for note in notes]
        broken += _of_track(context, track, made, limits, bars=[b for b in bars if _has_cell(b, track, cells)])
    return broken


def _of_note(note: Note, cell: GridCell, limits: Constraints, *, is_drum: bool) -> Counter[str]:
    return +Counter(
        {
            "region": int(not cell.contains(note)),
            "pitch range": int(not is_drum and not limits.pitch_min <= note.pitch <= limits.pitch_max),
            "scale": int(not is_drum and limits.scale is not None and note.pitch % 12 not in limits.scale),
            "velocity": int(not limits.velocity_min <= note.velocity <= limits.velocity_max),
        }
    )


def _of_track(
    context: EncodedScore, track: int, made: Sequence[Note], limits: Constraints, *, bars: Sequence[Bar]
) -> Counter[str]:
    broken: Counter[str] = Counter()
    kept = list(context.tracks[track].notes)
    if limits.max_polyphony is not None:
        for note in made:
            sounding = sum(other.onset <= note.onset < other.end for other in (*made, *kept))
            broken["polyphony"] += sounding > limits.max_polyphony
    for bar in bars:
        new = sum(bar.start <= note.onset < bar.end for note in made)
        count = new + sum(bar.start <= note.onset < bar.end for note in kept)
        if limits.max_notes_per_bar is not None:
            broken["most notes a bar"] += new > 0 and count > limits.max_notes_per_bar
        if limits.min_notes_per_bar is not None:
            broken["least notes a bar"] += count < limits.min_notes_per_bar
    return +broken


def _has_cell(bar: Bar, track: int, cells: Sequence[GridCell]) -> bool:
    return any(cell.track == track and bar.start <= cell.start < bar.end for cell in cells)
