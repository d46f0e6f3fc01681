"""What an attribute-only fill may say, as tables: built once a prompt. Knows nothing of prefixes, models or sampling.

How such a fill runs is fixed but for the asked fields: each cell has a template, the forced tokens of its answer with
CHOICE where one of these is chosen. What may be chosen for a note (onset t, duration d, pitch p) of its channel, so
that no note of the channel with its pitch sounds where another does:

    velocity   any bin within the limits.
    duration   d up to the next onset of (channel, p), of the context or of the notes asked about; 1 always may.
    pitch      p allowed by band, range and scale, free from t to t + d, above the note before it at the same onset,
               and low enough for the notes that follow at this onset to find pitches above it.
    rhythm     t in the cell, not before the note before it, free for p, and early enough for the notes that follow to
               find steps in their order; then d up to the next note of (channel, p) and to the last step at which the
               next note of the same pitch still asked about may begin.

Notes at one onset keep their order from low to high, so that each keeps its other fields. No state is without a
choice: pitches are checked to suffice before anything is said (`_check_pitches`), steps are reserved for the cells that
follow. Where the notes as they stand already share a channel and pitch with the context, that cannot be had: a note
that finds no free step is *loose*, any step in its order is allowed it, and the edit leaves it as it was if it would
collide.
"""

# T steps of the gap, N notes of a cell, C cells

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import ControlError
from harmonixr_model.notes.encoded_score import GridCell, NoteField
from harmonixr_model.notes.field_tokens import field_template
from harmonixr_model.notes.vocabulary import MAX_DURATION

CHOICE = -1
_AHEAD = np.arange(MAX_DURATION, 0, -1, dtype=np.int16)


@dataclass(frozen=True, slots=True)
class FieldTemplate:
    """A note asked about, in steps from the gap's first bar; what is asked is blank.

    `longest` bounds its duration where that is asked. `reserved` is where a rhythm may put it whatever came before, -1
    for a loose one.
    """

    onset: int
    duration: int
    pitch: int
    longest: int = 0
    reserved: int = -1


@dataclass(frozen=True, slots=True)
class AttributeTables:
    """The tables of one attribute-only prompt, cell by cell in fill order: see the module."""

    field: NoteField
    templates: tuple[tuple[int, ...], ...]
    notes: tuple[tuple[FieldTemplate, ...], ...]


def build_attribute_tables(
    cells: Sequence[GridCell],
    *,
    field: NoteField,
    origin: int,
    bar_starts: Sequence[int],
    groups: Sequence[int],
    max_duration: npt.NDArray[np.int16],
    pitch_allowed: npt.NDArray[np.bool_],
) -> AttributeTables:
    """Return the tables for `cells`, all of which ask for `only`; the arrays are those of FillTables.

    Raises ControlError where the pitches allowed may not suffice for the notes that sound together.
    """
    notes = [
        [
            FieldTemplate(note.onset - origin if field != "rhythm" else 0, note.duration, note.pitch)
            for note in cell.known
        ]
        for cell in cells
    ]
    templates = tuple(tuple(field_template(cell, start, CHOICE)) for cell, start in zip(cells, bar_starts, strict=True))
    if field == "pitch":
        _check_pitches(cells, notes, groups=groups, max_duration=max_duration, pitch_allowed=pitch_allowed)
    elif field == "duration":
        notes = _bounded(notes, groups, max_duration)
    elif field == "rhythm":
        notes = _reserved(cells, notes, origin=origin, groups=groups, max_duration=max_duration)
    return AttributeTables(field, templates, tuple(map(tuple, notes)))


def block(longest_T: npt.NDArray[np.int16], onset: int, duration: int) -> None:
    """Take note in a pitch's column of longest durations that a note sounds there."""
    longest_T[onset : onset + duration] = 0
    before = longest_T[max(0, onset - MAX_DURATION) : onset]
    np.minimum(before, _AHEAD[MAX_DURATION - len(before) :], out=before)


def reserve(longest: npt.NDArray[np.int16], notes: Sequence[FieldTemplate]) -> None:
    """Keep the steps these notes may need, in the table [T, 128] of their channel."""
    for note in notes:
        if note.reserved >= 0:
            block(longest[:, note.pitch], note.reserved, 1)


def latest_steps(
    notes: Sequence[FieldTemplate], loose: Sequence[bool], *, start: int, end: int, longest: npt.NDArray[np.int16]
) -> list[int]:
    """Return the last step at which each note may begin if all after it are to find steps, in order; -1 where none is.

    `longest` [T, 128] says which steps are free. A loose note only keeps its place in the order.
    """
    steps: list[int] = []
    following = end - 1
    of_pitch: dict[int, int] = {}
    for note, is_loose in zip(reversed(notes), reversed(loose), strict=True):
        if not is_loose:
            bound = min(following, of_pitch.get(note.pitch, end) - 1)
            free = np.flatnonzero(longest[start : max(start, bound + 1), note.pitch] > 0)
            if not len(free):
                steps.append(-1)
                continue
            following = of_pitch[note.pitch] = start + int(free[-1])
        steps.append(following)
    return steps[::-1]


def _bounded(
    notes: Sequence[Sequence[FieldTemplate]], groups: Sequence[int], max_duration: npt.NDArray[np.int16]
) -> list[list[FieldTemplate]]:
    """Return the notes with the longest durations they may have."""
    onsets: dict[tuple[int, int], list[int]] = {}
    for inside, group in zip(notes, groups, strict=True):
        for note in inside:
            onsets.setdefault((group, note.pitch), []).append(note.onset)

    def longest(note: FieldTemplate, group: int) -> int:
        later = [onset - note.onset for onset in onsets[group, note.pitch] if onset > note.onset]
        return max(1, min([int(max_duration[group, note.onset, note.pitch]), *later]))

    return [
        [FieldTemplate(n.onset, n.duration, n.pitch, longest=longest(n, group)) for n in inside]
        for inside, group in zip(notes, groups, strict=True)
    ]


def _reserved(
    cells: Sequence[GridCell],
    notes: Sequence[Sequence[FieldTemplate]],
    *,
    origin: int,
    groups: Sequence[int],
    max_duration: npt.NDArray[np.int16],
) -> list[list[FieldTemplate]]:
    """Return the notes with the steps reserved for them, the last cell's first: none take another's."""
    tables = max_duration.copy()
    found: list[list[FieldTemplate]] = []
    for cell, inside, group in zip(reversed(cells), reversed(notes), reversed(groups), strict=True):
        start, end = cell.start - origin, cell.end - origin
        loose = [False] * len(inside)
        while -1 in (steps := latest_steps(inside, loose, start=start, end=end, longest=tables[group])):
            for i, step in enumerate(steps):
                loose[i] |= step < 0
        kept = [
            FieldTemplate(n.onset, n.duration, n.pitch, reserved=-1 if is_loose else step)
            for n, step, is_loose in zip(inside, steps, loose, strict=True)
        ]
        reserve(tables[group], kept)
        found.append(kept)
    return found[::-1]


def _check_pitches(
    cells: Sequence[GridCell],
    notes: Sequence[Sequence[FieldTemplate]],
    *,
    groups: Sequence[int],
    max_duration: npt.NDArray[np.int16],
    pitch_allowed: npt.NDArray[np.bool_],
) -> None:
    """Raise ControlError where a chord might find too few pitches left, whatever was chosen before it.

    Each earlier note of the fill that sounds with the chord takes one pitch of its channel at most, so as many pitches
    as there are such notes and notes of the chord always suffice.
    """
    earlier: dict[int, list[FieldTemplate]] = {}
    for i, (cell, inside, group) in enumerate(zip(cells, notes, groups, strict=True)):
        for onset in sorted({note.onset for note in inside}):
            chord = [note for note in inside if note.onset == onset]
            end = onset + max(note.duration for note in chord)
            is_open = (max_duration[group, onset] >= end - onset) & pitch_allowed[i]
            others = sum(n.onset < end and onset < n.onset + n.duration for n in earlier.get(group, ()))
            if is_open.sum() < len(chord) + others:
                raise ControlError(
                    f"{len(chord) + others} notes of track {cell.track + 1} sound together and only {is_open.sum()} "
                    "pitches are allowed and free there; widen the pitch range, the scale or the band"
                )
            earlier.setdefault(group, []).extend(chord)
