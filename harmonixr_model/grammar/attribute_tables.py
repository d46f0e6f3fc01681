"""The tables of a single-field fill: one field of known notes is filled, all their other fields are forced.

Each cell has a template: the forced tokens of its fill, with CHOICE where a token is sampled. A note (onset t,
duration d, pitch p) may take these values, so that no two notes of a channel and pitch overlap:

    velocity   any bin within the constraints.
    duration   d up to the next onset of (channel, p), of the context or of the cells' notes; 1 is always allowed.
    pitch      p allowed by band, range and scale, free from t to t + d, above the previous note at the same onset,
               and low enough that the following notes at this onset still find pitches above it.
    rhythm     t within the cell, not before the previous note, free for p, and early enough that the following notes
               find steps in their order; then d up to the next note of (channel, p) and to the last step at which the
               next note of the same pitch may still begin.

Notes at one onset keep their order from low to high, which identifies them. Every state has a choice: `_check_pitches`
checks beforehand that pitches suffice, and steps are reserved for the cells that follow. Where known notes already
overlap the context on a channel and pitch, this is impossible. A note that finds no free step is *loose*: it may take
any step in its order, and the edit leaves the note as it was where it would collide.
"""

# T steps of the gap, N notes of a cell, C cells

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import ControlError
from harmonixr_model.grammar.fill_tables import CHOICE, AttributeTables, FieldTemplate, FillTables, occupy
from harmonixr_model.notes.field_tokens import SingleFieldCell


def build_attribute_tables(tables: FillTables, cells: Sequence[SingleFieldCell], *, origin: int) -> AttributeTables:
    """Return the tables of `cells`, which all fill one field; `origin` is the first step of the gap.

    Raises ControlError where the allowed pitches might not suffice for the notes that sound together.
    """
    field = cells[0].field
    notes = [
        [FieldTemplate(0 if field == "rhythm" else n.onset - origin, n.duration, n.pitch) for n in cell.known]
        for cell in cells
    ]
    starts = tables.bar_start.tolist()
    templates = (tuple(cell.template(origin + start, CHOICE)) for cell, start in zip(cells, starts, strict=True))
    if field == "pitch":
        _check_pitches(tables, cells, notes)
    elif field == "duration":
        notes = _with_longest(tables, notes)
    elif field == "rhythm":
        notes = _with_reserved(tables, notes)
    return AttributeTables(field, tuple(templates), tuple(map(tuple, notes)))


def reserve(longest: npt.NDArray[np.int16], notes: Sequence[FieldTemplate]) -> None:
    """Occupy the reserved steps of these notes in the table [T, 128] of their channel."""
    for note in notes:
        if note.reserved >= 0:
            occupy(longest[:, note.pitch], note.reserved, note.reserved + 1)


def latest_steps(
    tables: FillTables, cell: int, notes: Sequence[FieldTemplate], longest: npt.NDArray[np.int16]
) -> list[int]:
    """Return the last step at which each note may begin so that all later notes find steps in order; -1 for none.

    `longest` [T, 128] gives the free steps. A loose note only keeps its place in the order.
    """
    start, end = int(tables.cell_start[cell]), int(tables.cell_end[cell])
    steps: list[int] = []
    following = end - 1
    of_pitch: dict[int, int] = {}
    for note in reversed(notes):
        if note.reserved >= 0:
            bound = min(following, of_pitch.get(note.pitch, end) - 1)
            free = np.flatnonzero(longest[start : max(start, bound + 1), note.pitch] > 0)
            if not len(free):
                steps.append(-1)
                continue
            following = of_pitch[note.pitch] = start + int(free[-1])
        steps.append(following)
    return steps[::-1]


def _with_longest(tables: FillTables, notes: Sequence[Sequence[FieldTemplate]]) -> list[list[FieldTemplate]]:
    """Return the notes with the longest durations they may have."""
    groups = tables.cell_group.tolist()
    onsets: dict[tuple[int, int], list[int]] = {}
    for inside, group in zip(notes, groups, strict=True):
        for note in inside:
            onsets.setdefault((group, note.pitch), []).append(note.onset)

    def longest(note: FieldTemplate, group: int) -> int:
        later = [onset - note.onset for onset in onsets[group, note.pitch] if onset > note.onset]
        return max(1, min([int(tables.max_duration[group, note.onset, note.pitch]), *later]))

    return [
        [replace(note, longest=longest(note, group)) for note in inside]
        for inside, group in zip(notes, groups, strict=True)
    ]


def _with_reserved(tables: FillTables, notes: Sequence[list[FieldTemplate]]) -> list[list[FieldTemplate]]:
    """Return the notes with their reserved steps, which are found from the last cell to the first."""
    max_duration = tables.max_duration.copy()
    found: list[list[FieldTemplate]] = []
    for cell in reversed(range(len(notes))):
        inside, longest = notes[cell], max_duration[tables.cell_group[cell]]
        while -1 in (steps := latest_steps(tables, cell, inside, longest)):
            inside = [replace(n, reserved=-1) if step < 0 else n for n, step in zip(inside, steps, strict=True)]
        inside = [n if n.reserved < 0 else replace(n, reserved=step) for n, step in zip(inside, steps, strict=True)]
        reserve(longest, inside)
        found.append(inside)
    return found[::-1]


def _check_pitches(
    tables: FillTables, cells: Sequence[SingleFieldCell], notes: Sequence[Sequence[FieldTemplate]]
) -> None:
    """Raise ControlError where a chord might find too few free pitches, whatever was sampled before it.

    Each earlier note of the fill that sounds with the chord takes at most one pitch of its channel. So as many pitches
    as there are such notes and notes of the chord always suffice.
    """
    earlier: dict[int, list[FieldTemplate]] = {}
    for i, (cell, inside, group) in enumerate(zip(cells, notes, tables.cell_group.tolist(), strict=True)):
        for onset in sorted({note.onset for note in inside}):
            chord = [note for note in inside if note.onset == onset]
            end = onset + max(note.duration for note in chord)
            is_open = (tables.max_duration[group, onset] >= end - onset) & tables.pitch_allowed[i]
            others = sum(n.onset < end and onset < n.onset + n.duration for n in earlier.get(group, ()))
            if is_open.sum() < len(chord) + others:
                raise ControlError(
                    f"{len(chord) + others} notes of track {cell.track + 1} sound together and only {is_open.sum()} "
                    "pitches are allowed and free there; widen the pitch range, the scale or the band"
                )
            earlier.setdefault(group, []).extend(chord)
