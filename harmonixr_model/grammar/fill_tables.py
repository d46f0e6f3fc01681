"""What a fill may say, as tables: built once a prompt, read by the scalar grammar and by its tensor twin.

Knows nothing of prefixes, models or sampling.
"""

# G channel groups, K tracks that have cells, C cells in fill order, H steps of the horizon, V velocity bins

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import ControlError, PromptError
from harmonixr_model.grammar.attribute_tables import AttributeTables, build_attribute_tables
from harmonixr_model.grammar.constraints import UNLIMITED, Constraints
from harmonixr_model.music.score import Bar, bar_at
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.vocabulary import MAX_DURATION

FEW_PITCHES = 24


@dataclass(frozen=True, slots=True)
class FillTables:
    """The tables of one prompt. Never changed in place: a decoder copies `max_duration` and `sounding` per row.

    Every time is in steps relative to `origin`, the start of the gap's first bar. A channel group is a MIDI channel
    that has cells; a track row is a track that has cells.

    How a fill runs: the tokens `headers[c]` (forced), then at a *boundary* of cell c one of
      POS    strictly later than the cell's last onset, a step where some pitch may begin;
      PITCH  higher than the last note's, at the same step, once the cell has a note;
      VEL    only straight after DUR, different from the velocity in force;
      END    when the cell has at least `min_notes[c]` notes, or when nothing else is allowed.
    After POS comes PITCH, after PITCH comes DUR, after the DUR of a cell's first note comes VEL, always. After END
    comes the next cell's header, after the last END the forced EOS.

    When a note (t, p, d) of cell c in group g and row k is complete with its DUR, the tables change:
      max_duration[g, t:t+d, p] = 0;  max_duration[g, s, p] = min(itself, t - s) for s < t;
      sounding[k, t:t+d] += 1;        the count of notes in the cell's bar += 1.
    A duration d may be said at (t, p) iff 1 <= d <= min(max_duration[g, t, p], free(k, t)), where free(k, t) is the
    number of steps from t on until sounding[k] first reaches `max_polyphony` (0 if it does so at t). An onset (t, p)
    may be said iff `pitch_allowed[c, p]` and d = 1 may, and `last_end[c]` > t; d also keeps t + d <= last_end[c].
    No onset where the count has reached `max_notes[c]`, nor where it would break the token budget (below).

    The minimum looks ahead. room(c, s) for a step s of the cell is
      min(number of p with pitch_allowed[c, p] and max_duration[g, s, p] > 0, max(0, max_polyphony - sounding[k, s])),
    the notes of duration 1 that could begin at s. With need = min_notes[c] - count still to come and need > 0:
      POS t    only if sum of room(c, s) over s >= t is at least need;
      PITCH p  at t only if need - 1 more fit: min(number of allowed p' > p at t, max_polyphony - sounding[k, t] - 1)
               + sum of room(c, s) over s > t is at least need - 1;
      DUR d    only if the same still holds with the rooms that the note's sounding until t + d leaves.
    Where this leaves nothing at the point of choice (at a boundary: neither POS nor PITCH; an earlier cell of the same
    channel took the room), the lookahead is dropped there. END is allowed when nothing else is, so no reachable state
    is empty.

    Joining: at a boundary of a step s where the cell has a note that begins, while sounding[k, s] < min_polyphony and
    some PITCH is allowed, neither POS nor END is.

    Token budget: at a boundary POS and PITCH are allowed only if used + 5 + close_tokens[c] <= max_tokens, and VEL
    only if used + 2 + close_tokens[c] <= max_tokens, `used` being the fill's tokens so far, forced ones included. (A
    note takes at most POS PITCH DUR VEL, and END must still follow.)

    Attributes:
        origin: absolute step of the gap's first bar.
        max_duration: int16 [G, T, 128]. The longest duration of a note that begins at step t of the gap with this
            pitch on this channel; 0 where no onset may be. T is the steps of the gap's bars.
        sounding: int16 [K, T + MAX_DURATION]. Notes of the track's context that sound in each step.
        cell_group: int16 [C], row of `max_duration`.
        cell_row: int16 [C], row of `sounding`.
        cell_slot: int16 [C], the track slot said in the header.
        cell_bar: int16 [C], the bar said in the header (BARIDX), counted from the gap's first bar.
        bar_start: int32 [C], step at which the cell's bar begins; POS_i means step bar_start + i.
        cell_start: int32 [C], first step an onset may have.
        cell_end: int32 [C], step after the last an onset may have.
        pitch_allowed: bool [C, 128]. Band, pitch range and scale.
        velocity_allowed: bool [32], bins.
        min_notes: int16 [C], notes the cell must have (0: none asked), kept notes of the bar already taken off.
        max_notes: int16 [C], notes the cell may have (UNLIMITED: not asked), kept notes already taken off.
        counts_on: bool [C], whether the cell goes on counting the notes of the cell before it: same bar, same track.
        last_end: int32 [C], step by which every note of the cell must end (T + MAX_DURATION: no matter).
        max_polyphony: the cap on a track's sounding notes (UNLIMITED: not asked).
        max_tokens: the most tokens the whole fill may have, forced ones and EOS included.
        close_tokens: int32 [C], tokens that must still follow the END of cell c: later headers, ENDs and EOS.
        headers: C arrays int32, the forced tokens before each cell.
        velocity_min: int, decoded velocities are clamped up to it.
        velocity_max: int, decoded velocities are clamped down to it.
        min_polyphony: how many notes are to sound where one begins, if pitches are free (0: no matter).
        asked: of an attribute-only fill; what is said above of how a fill runs then gives way to `asked_rules`.
    """

    origin: int
    max_duration: npt.NDArray[np.int16]
    sounding: npt.NDArray[np.int16]
    cell_group: npt.NDArray[np.int16]
    cell_row: npt.NDArray[np.int16]
    cell_slot: npt.NDArray[np.int16]
    cell_bar: npt.NDArray[np.int16]
    bar_start: npt.NDArray[np.int32]
    cell_start: npt.NDArray[np.int32]
    cell_end: npt.NDArray[np.int32]
    pitch_allowed: npt.NDArray[np.bool_]
    velocity_allowed: npt.NDArray[np.bool_]
    min_notes: npt.NDArray[np.int16]
    max_notes: npt.NDArray[np.int16]
    counts_on: npt.NDArray[np.bool_]
    last_end: npt.NDArray[np.int32]
    max_polyphony: int
    max_tokens: int
    close_tokens: npt.NDArray[np.int32]
    headers: tuple[npt.NDArray[np.int32], ...]
    velocity_min: int
    velocity_max: int
    attributes: AttributeTables | None = None
    min_polyphony: int = 0

    @property
    def cells(self) -> int:
        """How many cells the fill has."""
        return len(self.headers)


def build_fill_tables(
    context: EncodedScore,
    cells: Sequence[GridCell],
    *,
    bars: Sequence[Bar],
    slots: Sequence[int],
    headers: Sequence[Sequence[int]],
    constraints: Constraints,
    max_fill_tokens: int,
) -> FillTables:
    """Return the tables for `cells`, in fill order, within the gap's `bars`.

    Raises ControlError where a cell cannot keep `constraints` whatever is said, PromptError where `max_fill_tokens` is
    too small to say even an empty fill.
    """
    origin, steps = bars[0].start, bars[-1].end - bars[0].start
    channels = sorted({context.tracks[cell.track].channel for cell in cells})
    tracks = sorted({cell.track for cell in cells})
    cell_bars = [bar_at(bars, cell.start) for cell in cells]
    pitch_allowed = _pitches_allowed(context, cells, constraints)
    counts_on = [
        i > 0 and cells[i - 1].track == cell.track and cell_bars[i - 1] == cell_bars[i] for i, cell in enumerate(cells)
    ]
    least, most = _note_counts(context, cells, cell_bars, counts_on, constraints)
    sizes = [len(header) + 1 for header in headers]
    close_tokens = np.array([sum(sizes[i + 1 :]) + 1 for i in range(len(cells))], dtype=np.int32)
    if sum(sizes) + 1 > max_fill_tokens:
        raise PromptError(
            f"a fill of {len(cells)} cells takes at least {sum(sizes) + 1} tokens, {max_fill_tokens} are allowed; "
            "choose fewer bars or tracks"
        )
    tables = FillTables(
        origin=origin,
        max_duration=np.stack([_longest_durations(context, channel, origin, steps) for channel in channels]),
        sounding=np.stack([_sounding(context, track, origin, steps + MAX_DURATION) for track in tracks]),
        cell_group=np.array([channels.index(context.tracks[c.track].channel) for c in cells], dtype=np.int16),
        cell_row=np.array([tracks.index(cell.track) for cell in cells], dtype=np.int16),
        cell_slot=np.array([slots.index(cell.track) for cell in cells], dtype=np.int16),
        cell_bar=np.array([bar.index - bars[0].index for bar in cell_bars], dtype=np.int16),
        bar_start=np.array([bar.start - origin for bar in cell_bars], dtype=np.int32),
        cell_start=np.array([cell.start - origin for cell in cells], dtype=np.int32),
        cell_end=np.array([cell.end - origin for cell in cells], dtype=np.int32),
        pitch_allowed=pitch_allowed,
        velocity_allowed=constraints.velocity_bins,
        min_notes=least,
        max_notes=most,
        counts_on=np.array(counts_on, dtype=bool),
        last_end=_last_ends(cell_bars, origin, steps, least, pitch_allowed, constraints),
        max_polyphony=constraints.max_polyphony or UNLIMITED,
        max_tokens=max_fill_tokens,
        close_tokens=close_tokens,
        headers=tuple(np.array(header, dtype=np.int32) for header in headers),
        velocity_min=constraints.velocity_min,
        velocity_max=constraints.velocity_max,
        min_polyphony=constraints.min_polyphony,
    )
    _check_minimum(tables, context, cells, cell_bars)
    return _asking(tables, cells, constraints) if any(cell.field for cell in cells) else tables


def _asking(tables: FillTables, cells: Sequence[GridCell], constraints: Constraints) -> FillTables:
    """Return the tables of an attribute-only prompt."""
    only = cells[0].field
    if only is None or any(cell.field != only for cell in cells):
        raise PromptError("some cells ask for one field of their notes, others for something else; ask one by one")
    constraints.check_field(only)
    asked = build_attribute_tables(
        cells,
        field=only,
        origin=tables.origin,
        bar_starts=[tables.origin + int(start) for start in tables.bar_start],
        groups=tables.cell_group.tolist(),
        max_duration=tables.max_duration,
        pitch_allowed=tables.pitch_allowed,
    )
    size = sum(len(header) + len(said) for header, said in zip(tables.headers, asked.templates, strict=True)) + 1
    if size > tables.max_tokens:
        raise PromptError(
            f"the answer takes {size} tokens, {tables.max_tokens} are allowed; choose fewer bars or tracks"
        )
    return replace(tables, attributes=asked)


def room(
    tables: FillTables, cell: int, max_duration: npt.NDArray[np.int16], sounding: npt.NDArray[np.int16]
) -> npt.NDArray[np.int64]:
    """Return for each step of a cell how many notes of duration 1 could begin there; see FillTables."""
    steps = slice(int(tables.cell_start[cell]), int(tables.cell_end[cell]))
    open_pitches = (max_duration[tables.cell_group[cell], steps] > 0) & tables.pitch_allowed[cell]
    voices = np.maximum(0, tables.max_polyphony - sounding[tables.cell_row[cell], steps])
    least: npt.NDArray[np.int64] = np.minimum(open_pitches.sum(axis=1), voices).astype(np.int64)
    return least


def _longest_durations(context: EncodedScore, channel: int, origin: int, steps: int) -> npt.NDArray[np.int16]:
    """Return int16 [T, 128]: the longest note from each step that meets no context note of the channel."""
    longest = np.full((steps, 128), MAX_DURATION, dtype=np.int16)
    ahead = np.arange(MAX_DURATION, 0, -1, dtype=np.int16)
    for index, track in enumerate(context.tracks):
        if track.channel != channel:
            continue
        for note in context.notes(index, origin - MAX_DURATION, origin + steps + MAX_DURATION):
            onset, end = note.onset - origin, note.end - origin
            if end <= 0:
                continue
            longest[max(0, onset) : end, note.pitch] = 0
            first, stop = max(0, onset - MAX_DURATION), min(onset, steps)
            if first < stop:
                shift = MAX_DURATION - onset
                column = longest[first:stop, note.pitch]
                np.minimum(column, ahead[first + shift : stop + shift], out=column)
    return longest


def _sounding(context: EncodedScore, track: int, origin: int, horizon: int) -> npt.NDArray[np.int16]:
    """Return int16 [horizon]: how many notes of the track's context sound in each step."""
    change = np.zeros(horizon + 1, dtype=np.int16)
    for note in context.notes(track, origin - MAX_DURATION, origin + horizon):
        if note.end > origin:
            change[max(0, note.onset - origin)] += 1
            change[min(horizon, note.end - origin)] -= 1
    return np.cumsum(change[:-1], dtype=np.int16)


def _pitches_allowed(
    context: EncodedScore, cells: Sequence[GridCell], constraints: Constraints
) -> npt.NDArray[np.bool_]:
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
            "a pitch range, scale or chords say nothing about drums, and only drums are to be filled; omit it"
        )
    return allowed


def _note_counts(
    context: EncodedScore,
    cells: Sequence[GridCell],
    bars: Sequence[Bar],
    counts_on: Sequence[bool],
    constraints: Constraints,
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Return the least and the most notes of each cell, less those kept in its bar."""
    least, most = np.zeros(len(cells), dtype=np.int16), np.full(len(cells), UNLIMITED, dtype=np.int16)
    for i, (cell, bar) in enumerate(zip(cells, bars, strict=True)):
        kept = len(context.notes(cell.track, bar.start, bar.end))
        is_last = i + 1 == len(cells) or not counts_on[i + 1]
        fewest, greatest = constraints.notes_in(bar)
        if is_last:
            least[i] = max(0, fewest - kept)
        if greatest != UNLIMITED:
            most[i] = max(0, greatest - kept)
    return least, most


def _last_ends(
    bars: Sequence[Bar],
    origin: int,
    steps: int,
    least: npt.NDArray[np.int16],
    pitch_allowed: npt.NDArray[np.bool_],
    constraints: Constraints,
) -> npt.NDArray[np.int32]:
    """Return the step by which each cell's notes must end: its bar's end where a minimum could else be starved.

    With a cap on voices or few pitches, a note held into the next bar could leave no room for that bar's minimum.
    """
    free = np.full(len(bars), steps + MAX_DURATION, dtype=np.int32)
    if not least.any():
        return free
    is_tight = (pitch_allowed.sum(axis=1) < FEW_PITCHES) | (constraints.max_polyphony is not None)
    ends = np.array([bar.end - origin for bar in bars], dtype=np.int32)
    return np.where(is_tight, ends, free).astype(np.int32)


def _check_minimum(tables: FillTables, context: EncodedScore, cells: Sequence[GridCell], bars: Sequence[Bar]) -> None:
    """Raise ControlError where even an empty gap has no room for the notes a bar must have."""
    total = 0
    for i, cell in enumerate(cells):
        places = int(room(tables, i, tables.max_duration, tables.sounding).sum())
        total = places + (total if tables.counts_on[i] else 0)
        places_or_cap = min(total, int(tables.max_notes[i]))
        if tables.min_notes[i] > places_or_cap:
            raise ControlError(
                f"track {cell.track + 1} has room for {places_or_cap} new notes in bar {bars[i].index + 1}, "
                f"{int(tables.min_notes[i])} are required; ask for fewer notes per bar, or loosen the other constraints"
            )
