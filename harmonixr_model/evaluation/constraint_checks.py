"""Count the notes of fills that violate constraints, independently of the grammar's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from harmonixr_model.evaluation.metrics import Fills, notes_by_track
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.score import Bar, Note
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell

SCALES = tuple(tuple(sorted((step + tonic) % 12 for step in (0, 2, 4, 5, 7, 9, 11))) for tonic in range(12))


def sample_constraints(rng: np.random.Generator) -> Constraints:
    """Sample constraints: about half of the kinds each time, sometimes more notes than the gap can hold."""
    used = rng.random(6) < 0.5
    low = int(rng.integers(30, 70))
    softest = int(rng.integers(1, 100))
    least = int(rng.integers(0, 5))
    return Constraints(
        pitch_min=low if used[0] else 0,
        pitch_max=low + int(rng.integers(12, 40)) if used[0] else 127,
        scale=SCALES[int(rng.integers(12))] if used[1] else None,
        max_polyphony=int(rng.integers(1, 5)) if used[2] else None,
        min_notes_per_bar=least if used[3] else None,
        max_notes_per_bar=least + int(rng.integers(0, 8)) if used[4] else None,
        velocity_min=softest if used[5] else 1,
        velocity_max=min(127, softest + int(rng.integers(0, 40))) if used[5] else 127,
    )


def violations(
    context: EncodedScore, cells: Sequence[GridCell], fill: Fills, constraints: Constraints, *, bars: Sequence[Bar]
) -> Counter[str]:
    """Return how many notes or bars of a fill violate each constraint.

    `context` has the music around the gap and the locked notes. Their own violations do not count.
    """
    found: Counter[str] = Counter()
    for cell, notes in zip(cells, fill, strict=True):
        for note in notes:
            found += _of_note(note, cell, constraints, is_drum=context.tracks[cell.track].is_drum)
    for track, notes in notes_by_track(cells, fill).items():
        filled_bars = [bar for bar in bars if _has_cell(bar, track, cells)]
        found += _of_track(context.tracks[track].notes, notes, constraints, bars=filled_bars)
    return found


def _of_note(note: Note, cell: GridCell, constraints: Constraints, *, is_drum: bool) -> Counter[str]:
    in_range = constraints.pitch_min <= note.pitch <= constraints.pitch_max
    in_scale = constraints.scale is None or note.pitch % 12 in constraints.scale
    return +Counter(
        {
            "region": int(not cell.contains(note)),
            "pitch range": int(not is_drum and not in_range),
            "scale": int(not is_drum and not in_scale),
            "velocity": int(not constraints.velocity_min <= note.velocity <= constraints.velocity_max),
        }
    )


def _of_track(
    context: Sequence[Note], filled: Sequence[Note], constraints: Constraints, *, bars: Sequence[Bar]
) -> Counter[str]:
    found: Counter[str] = Counter()
    if constraints.max_polyphony is not None:
        for note in filled:
            sounding = sum(other.onset <= note.onset < other.end for other in (*filled, *context))
            found["polyphony"] += sounding > constraints.max_polyphony
    for bar in bars:
        new, old = (sum(bar.start <= note.onset < bar.end for note in notes) for notes in (filled, context))
        if constraints.max_notes_per_bar is not None:
            found["maximum notes per bar"] += new > 0 and new + old > constraints.max_notes_per_bar
        if constraints.min_notes_per_bar is not None:
            found["minimum notes per bar"] += new + old < constraints.min_notes_per_bar
    return +found


def _has_cell(bar: Bar, track: int, cells: Sequence[GridCell]) -> bool:
    return any(cell.track == track and bar.start <= cell.start < bar.end for cell in cells)
