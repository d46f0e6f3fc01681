"""Build the tables of a fill's grammar from its context, cells and constraints."""

# C cells in fill order, H steps of the horizon

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import ControlError, PromptError
from harmonixr_model.grammar.attribute_tables import build_attribute_tables
from harmonixr_model.grammar.constraints import UNLIMITED, Constraints
from harmonixr_model.grammar.fill_tables import FillTables, occupy, room
from harmonixr_model.music.score import Bar, bar_at
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.field_tokens import SingleFieldCell
from harmonixr_model.notes.vocabulary import MAX_DURATION

FEW_PITCHES = 24


def build_fill_tables(
    context: EncodedScore,
    cells: Sequence[GridCell],
    *,
    bars: Sequence[Bar],
    headers: Sequence[Sequence[int]],
    constraints: Constraints,
    max_fill_tokens: int,
) -> FillTables:
    """Return the tables of `cells`, which are in fill order within the gap's `bars`.

    Raises ControlError where no fill of a cell can meet `constraints`, PromptError where `max_fill_tokens` is too
    small even for an empty fill.
    """
    origin, steps = bars[0].start, bars[-1].end - bars[0].start
    channels = sorted({context.tracks[cell.track].channel for cell in cells})
    tracks = sorted({cell.track for cell in cells})
    cell_bars = [bar_at(bars, cell.start) for cell in cells]
    pitch_allowed = _allowed_pitches(context, cells, constraints)
    counts_on = [
        i > 0 and cells[i - 1].track == cell.track and cell_bars[i - 1] == cell_bars[i] for i, cell in enumerate(cells)
    ]
    min_notes, max_notes = _note_counts(context, cells, cell_bars, counts_on, constraints)
    sizes = [len(header) + 1 for header in headers]
    if sum(sizes) + 1 > max_fill_tokens:
        raise PromptError(
            f"a fill of {len(cells)} cells takes at least {sum(sizes) + 1} tokens, {max_fill_tokens} are allowed; "
            "choose fewer bars or tracks"
        )
    tables = FillTables(
        max_duration=np.stack([_longest_durations(context, channel, origin, steps) for channel in channels]),
        sounding=np.stack([_sounding_notes(context, track, origin, steps + MAX_DURATION) for track in tracks]),
        cell_group=np.array([channels.index(context.tracks[c.track].channel) for c in cells], dtype=np.int16),
        cell_row=np.array([tracks.index(cell.track) for cell in cells], dtype=np.int16),
        bar_start=np.array([bar.start - origin for bar in cell_bars], dtype=np.int32),
        cell_start=np.array([cell.start - origin for cell in cells], dtype=np.int32),
        cell_end=np.array([cell.end - origin for cell in cells], dtype=np.int32),
        pitch_allowed=pitch_allowed,
        velocity_allowed=constraints.velocity_bins,
        min_notes=min_notes,
        max_notes=max_notes,
        counts_on=np.array(counts_on, dtype=bool),
        last_end=_last_ends(cell_bars, origin, steps, min_notes, pitch_allowed, constraints),
        max_polyphony=constraints.max_polyphony or UNLIMITED,
        max_tokens=max_fill_tokens,
        close_tokens=np.array([sum(sizes[i + 1 :]) + 1 for i in range(len(cells))], dtype=np.int32),
        headers=tuple(np.array(header, dtype=np.int32) for header in headers),
        velocity_min=constraints.velocity_min,
        velocity_max=constraints.velocity_max,
        min_polyphony=constraints.min_polyphony,
    )
    _check_minimum(tables, cells, cell_bars)
    single = [cell for cell in cells if isinstance(cell, SingleFieldCell)]
    return _single_field(tables, single, origin, constraints) if single else tables


def _single_field(
    tables: FillTables, cells: Sequence[SingleFieldCell], origin: int, constraints: Constraints
) -> FillTables:
    """Return the tables of a single-field prompt."""
    field = cells[0].field
    if len(cells) < tables.cells or any(cell.field != field for cell in cells):
        raise PromptError("the cells fill different fields, or one fills whole notes; fill them one by one")
    constraints.check_field(field)
    attributes = build_attribute_tables(tables, cells, origin=origin)
    size = sum(map(len, tables.headers)) + sum(map(len, attributes.templates)) + 1
    if size > tables.max_tokens:
        raise PromptError(f"the fill takes {size} tokens, {tables.max_tokens} are allowed; choose fewer bars or tracks")
    return replace(tables, attributes=attributes)


def _longest_durations(context: EncodedScore, channel: int, origin: int, steps: int) -> npt.NDArray[np.int16]:
    """Return int16 [T, 128]: the longest note from each step that overlaps no context note of the channel."""
    longest = np.full((steps, 128), MAX_DURATION, dtype=np.int16)
    for index, track in enumerate(context.tracks):
        if track.channel == channel:
            for note in context.notes(index, origin - MAX_DURATION, origin + steps + MAX_DURATION):
                if note.end > origin:
                    occupy(longest[:, note.pitch], note.onset - origin, note.end - origin)
    return longest


def _sounding_notes(context: EncodedScore, track: int, origin: int, horizon: int) -> npt.NDArray[np.int16]:
    """Return int16 [H]: how many notes of the track's context sound in each step from `origin` on."""
    change = np.zeros(horizon + 1, dtype=np.int16)
    for note in context.notes(track, origin - MAX_DURATION, origin + horizon):
        if note.end > origin:
            change[max(0, note.onset - origin)] += 1
            change[min(horizon, note.end - origin)] -= 1
    return np.cumsum(change[:-1], dtype=np.int16)


def _allowed_pitches(
    context: EncodedScore, cells: Sequence[GridCell], constraints: Constraints
) -> npt.NDArray[np.bool_]:
    """Return the pitches each cell may have, bool [C, 128]."""
    allowed = np.zeros((len(cells), 128), dtype=bool)
    for row, cell in zip(allowed, cells, strict=True):
        row[cell.low : cell.high + 1] = True
        if not context.tracks[cell.track].is_drum:
            row &= constraints.pitches & constraints.chord_tones(cell.start, cell.end)
        if not row.any():
            raise ControlError(
                f"no pitch of the band {cell.low}-{cell.high} is within the pitch range {constraints.pitch_min}-"
                f"{constraints.pitch_max}, the scale and the chords; widen one of them"
            )
    if constraints.binds_pitch and all(context.tracks[cell.track].is_drum for cell in cells):
        raise ControlError(
            "a pitch range, scale or chords do not apply to drums, and only drums are to be filled; omit it"
        )
    return allowed


def _note_counts(
    context: EncodedScore,
    cells: Sequence[GridCell],
    bars: Sequence[Bar],
    counts_on: Sequence[bool],
    constraints: Constraints,
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Return the least and the most notes of each cell, less the locked notes of its bar."""
    min_notes = np.zeros(len(cells), dtype=np.int16)
    max_notes = np.full(len(cells), UNLIMITED, dtype=np.int16)
    for i, (cell, bar) in enumerate(zip(cells, bars, strict=True)):
        locked = len(context.notes(cell.track, bar.start, bar.end))
        is_last = i + 1 == len(cells) or not counts_on[i + 1]
        least, most = constraints.notes_in(bar)
        if is_last:
            min_notes[i] = max(0, least - locked)
        if most != UNLIMITED:
            max_notes[i] = max(0, most - locked)
    return min_notes, max_notes


def _last_ends(
    bars: Sequence[Bar],
    origin: int,
    steps: int,
    min_notes: npt.NDArray[np.int16],
    pitch_allowed: npt.NDArray[np.bool_],
    constraints: Constraints,
) -> npt.NDArray[np.int32]:
    """Return the step by which each cell's notes must end: the bar's end where a minimum could not be met otherwise.

    With limited polyphony or few pitches, a note held into the next bar could leave no room for that bar's minimum.
    """
    free = np.full(len(bars), steps + MAX_DURATION, dtype=np.int32)
    if not min_notes.any():
        return free
    is_tight = (pitch_allowed.sum(axis=1) < FEW_PITCHES) | (constraints.max_polyphony is not None)
    ends = np.array([bar.end - origin for bar in bars], dtype=np.int32)
    return np.where(is_tight, ends, free).astype(np.int32)


def _check_minimum(tables: FillTables, cells: Sequence[GridCell], bars: Sequence[Bar]) -> None:
    """Raise ControlError where even an empty gap has no room for the notes a bar must have."""
    total = 0
    for i, cell in enumerate(cells):
        places = int(room(tables, i, tables.max_duration, tables.sounding).sum())
        total = places + (total if tables.counts_on[i] else 0)
        most = min(total, int(tables.max_notes[i]))
        if tables.min_notes[i] > most:
            raise ControlError(
                f"track {cell.track + 1} has room for {most} new notes in bar {bars[i].index + 1}, "
                f"{int(tables.min_notes[i])} are required; ask for fewer notes per bar, or loosen the other constraints"
            )
