"""The tables of a fill's grammar; their docstring defines the grammar.

`table_builder` makes them once for each prompt. The Python grammar and its C++ twin read them.
"""

# G channel groups, K tracks that have cells, C cells in fill order, T steps of the gap, H steps of the horizon

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harmonixr_model.notes.encoded_score import NoteField
from harmonixr_model.notes.vocabulary import MAX_DURATION

CHOICE = -1
_AHEAD = np.arange(MAX_DURATION, 0, -1, dtype=np.int16)


@dataclass(frozen=True, slots=True)
class FieldTemplate:
    """A note whose field is filled, in steps from the gap's first bar; the field itself is blank."""

    onset: int
    duration: int
    pitch: int
    longest: int = 0  # bounds its duration where the duration is filled
    reserved: int = 0  # in a rhythm, a step where the note may always be placed; -1 for a loose note


@dataclass(frozen=True, slots=True)
class AttributeTables:
    """The tables of a single-field fill, cell by cell in fill order; `attribute_tables` defines them."""

    field: NoteField
    templates: tuple[tuple[int, ...], ...]  # the forced tokens of a cell's fill, CHOICE where a token is sampled
    notes: tuple[tuple[FieldTemplate, ...], ...]


@dataclass(frozen=True, slots=True)
class FillTables:
    """The tables of one prompt. Never changed in place: a decoder copies `max_duration` and `sounding` for each row.

    All times are in steps from the start of the gap's first bar. A channel group is a MIDI channel that has cells; a
    track row is a track that has cells.

    A fill begins with the forced tokens `headers[c]`. Then, at a *boundary* of cell c, comes one of
      POS    a step strictly later than the cell's last onset, where some pitch may begin;
      PITCH  higher than the last note's, at the same step, once the cell has a note;
      VEL    only straight after DUR, and different from the velocity in force;
      END    when the cell has at least `min_notes[c]` notes, or when nothing else is allowed.
    PITCH always follows POS, DUR always follows PITCH, and VEL always follows the DUR of a cell's first note. The next
    cell's header follows END; the forced EOS follows the last END.

    After the DUR of a note (t, p, d) of cell c in group g and row k, the tables change:
      max_duration[g, t:t+d, p] = 0;  max_duration[g, s, p] = min(itself, t - s) for s < t;
      sounding[k, t:t+d] += 1;        the count of notes in the cell's bar += 1.
    A duration d is allowed at (t, p) iff 1 <= d <= min(max_duration[g, t, p], free(k, t)) and t + d <= last_end[c],
    where free(k, t) is the number of steps from t on until sounding[k] first reaches `max_polyphony` (0 if it does at
    t). An onset (t, p) is allowed iff pitch_allowed[c, p], last_end[c] > t, and d = 1 is allowed at (t, p). No onset is
    allowed once the count has reached `max_notes[c]`, nor where it would break the token budget (below).

    The minimum looks ahead. room(c, s) for a step s of the cell is
      min(number of p with pitch_allowed[c, p] and max_duration[g, s, p] > 0, max(0, max_polyphony - sounding[k, s])),
    the notes of duration 1 that could begin at s. With need = min_notes[c] - count and need > 0:
      POS t    only if the sum of room(c, s) over s >= t is at least need;
      PITCH p  at t only if need - 1 more fit: min(number of allowed p' > p at t, max_polyphony - sounding[k, t] - 1)
               + sum of room(c, s) over s > t is at least need - 1;
      DUR d    only if the same still holds with the rooms that remain while the note sounds until t + d.
    Where this leaves nothing (at a boundary: neither POS nor PITCH; an earlier cell of the same channel took the room),
    the lookahead is dropped there. END is allowed when nothing else is, so no reachable state is empty.

    Minimum polyphony: at a boundary of a step s where a note of the cell begins, neither POS nor END is allowed while
    sounding[k, s] < min_polyphony and some PITCH is allowed.

    Token budget: `used` counts the fill's tokens so far, forced ones included. At a boundary POS and PITCH are allowed
    only if used + 5 + close_tokens[c] <= max_tokens, and VEL only if used + 2 + close_tokens[c] <= max_tokens. (A note
    takes at most POS PITCH DUR VEL, and END must still follow.)
    """

    # The longest duration of a note that begins at step t of the gap with this pitch on this channel; 0: no onset.
    max_duration: npt.NDArray[np.int16]  # [G, T, 128]
    # Notes of the track's context that sound in each step; H is T + MAX_DURATION.
    sounding: npt.NDArray[np.int16]  # [K, H]
    cell_group: npt.NDArray[np.int16]  # [C], row of `max_duration`
    cell_row: npt.NDArray[np.int16]  # [C], row of `sounding`
    bar_start: npt.NDArray[np.int32]  # [C], step at which the cell's bar begins; POS_i means step bar_start + i
    cell_start: npt.NDArray[np.int32]  # [C], the first step of an onset
    cell_end: npt.NDArray[np.int32]  # [C], the step after the last of an onset
    pitch_allowed: npt.NDArray[np.bool_]  # [C, 128], by band, pitch range, scale and chords
    velocity_allowed: npt.NDArray[np.bool_]  # [32] bins
    # Notes the cell must and may have, less the locked notes of its bar (UNLIMITED: no limit).
    min_notes: npt.NDArray[np.int16]  # [C]
    max_notes: npt.NDArray[np.int16]  # [C]
    counts_on: npt.NDArray[np.bool_]  # [C], whether it continues the count of the cell before: same bar, same track
    last_end: npt.NDArray[np.int32]  # [C], step by which every note of the cell must end (H: no limit)
    max_polyphony: int  # the most notes of a track that sound at once (UNLIMITED: no limit)
    max_tokens: int  # of the whole fill, forced tokens and EOS included
    close_tokens: npt.NDArray[np.int32]  # [C], tokens that must still follow the cell's END: later headers, ENDs, EOS
    headers: tuple[npt.NDArray[np.int32], ...]  # C arrays, the forced tokens before each cell
    velocity_min: int  # decoded velocities are clamped to these
    velocity_max: int
    attributes: AttributeTables | None = None  # of a single-field fill; they replace the grammar above
    min_polyphony: int = 0  # the least notes that sound where one begins, as long as pitches are free

    @property
    def cells(self) -> int:
        """How many cells the fill has."""
        return len(self.headers)


def room(
    tables: FillTables, cell: int, max_duration: npt.NDArray[np.int16], sounding: npt.NDArray[np.int16]
) -> npt.NDArray[np.int64]:
    """Return for each step of a cell how many notes of duration 1 could begin there; see FillTables."""
    steps = slice(int(tables.cell_start[cell]), int(tables.cell_end[cell]))
    open_pitches = (max_duration[tables.cell_group[cell], steps] > 0) & tables.pitch_allowed[cell]
    voices = np.maximum(0, tables.max_polyphony - sounding[tables.cell_row[cell], steps])
    notes: npt.NDArray[np.int64] = np.minimum(open_pitches.sum(axis=1), voices).astype(np.int64)
    return notes


def occupy(longest_T: npt.NDArray[np.int16], onset: int, end: int) -> None:
    """Add a note that sounds in [onset, end) to one pitch's column of longest durations; changes it in place."""
    longest_T[max(0, onset) : max(0, end)] = 0
    first, stop = max(0, onset - MAX_DURATION), min(onset, len(longest_T))
    if first < stop:
        before, shift = longest_T[first:stop], MAX_DURATION - onset
        np.minimum(before, _AHEAD[first + shift : stop + shift], out=before)
