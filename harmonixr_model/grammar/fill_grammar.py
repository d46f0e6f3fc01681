"""The grammar of fills in plain numpy, for one row; `FillTables` defines it, and the C++ twin is tested against it.

A mask on the next token makes every fill valid by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import TokenError
from harmonixr_model.grammar.attribute_grammar import AttributeGrammar
from harmonixr_model.grammar.fill_tables import FillTables, occupy, room
from harmonixr_model.grammar.row_grammar import RowGrammar
from harmonixr_model.notes.vocabulary import DURATIONS, VOCAB

END = VOCAB.id("END")
_DURATIONS = np.array(DURATIONS)


class _Expects(Enum):
    BOUNDARY = auto()
    PITCH = auto()
    DURATION = auto()
    FIRST_VELOCITY = auto()


class FillGrammar(RowGrammar):
    """The state of one note fill."""

    def __init__(self, tables: FillTables) -> None:
        self.sounding = tables.sounding.copy()
        self.count = 0  # notes of the cell's bar, by this cell or the ones whose count it continues
        super().__init__(tables)

    def _open_cell(self) -> None:
        self.count = self.count if self.tables.counts_on[self.cell] else 0
        self.step, self.pitch = int(self.tables.cell_start[self.cell]) - 1, 128  # of the current note
        self.velocity = -1  # the token in force, -1 before the cell's first note
        self.may_change_velocity = False
        self._expects = _Expects.BOUNDARY

    def _allow_choices(self, mask: npt.NDArray[np.bool_]) -> None:
        if self._expects is _Expects.BOUNDARY:
            self._allow_boundary(mask)
        elif self._expects is _Expects.PITCH:
            loose, enough = self._pitches(above=-1)
            mask[VOCAB.pitch.start : VOCAB.pitch.stop] = enough if enough.any() else loose
        elif self._expects is _Expects.DURATION:
            mask[VOCAB.duration.start : VOCAB.duration.stop] = self._durations()
        else:
            mask[VOCAB.velocity.start : VOCAB.velocity.stop] = self.tables.velocity_allowed

    def _take_choice(self, token: int) -> None:
        if token == END:
            self._open_next_cell()
        elif token in VOCAB.position:
            self.step = int(self.tables.bar_start[self.cell]) + VOCAB.position.index(token)
            self.pitch, self._expects = -1, _Expects.PITCH
        elif token in VOCAB.pitch:
            self.pitch, self._expects = VOCAB.pitch.index(token), _Expects.DURATION
        elif token in VOCAB.duration:
            self._place(DURATIONS[VOCAB.duration.index(token)])
        else:
            self.velocity, self.may_change_velocity, self._expects = token, False, _Expects.BOUNDARY

    def _place(self, duration: int) -> None:
        """Add the note (step, pitch, duration) to the tables."""
        group, row = self.tables.cell_group[self.cell], self.tables.cell_row[self.cell]
        occupy(self.max_duration[group, :, self.pitch], self.step, self.step + duration)
        self.sounding[row, self.step : self.step + duration] += 1
        self.count += 1
        self.may_change_velocity = self.velocity >= 0
        self._expects = _Expects.BOUNDARY if self.velocity >= 0 else _Expects.FIRST_VELOCITY

    def _allow_boundary(self, mask: npt.NDArray[np.bool_]) -> None:
        tables, cell = self.tables, self.cell
        left = tables.max_tokens - self.used - int(tables.close_tokens[cell])
        if left >= 5 and self.count < tables.max_notes[cell]:
            self._allow_onsets(mask)
        if left >= 2 and self.may_change_velocity:
            mask[VOCAB.velocity.start : VOCAB.velocity.stop] = tables.velocity_allowed
            mask[self.velocity] = False
        mask[END] = self.count >= tables.min_notes[cell] or not mask.any()
        if self._needs_voices(mask):
            mask[VOCAB.position.start : VOCAB.position.stop] = False
            mask[END] = False

    def _needs_voices(self, mask: npt.NDArray[np.bool_]) -> bool:
        """Return whether the current step has fewer voices than `min_polyphony` and a pitch is allowed."""
        if not (self.tables.min_polyphony and 0 <= self.pitch < 128):
            return False
        sounding = int(self.sounding[self.tables.cell_row[self.cell], self.step])
        return sounding < self.tables.min_polyphony and bool(mask[VOCAB.pitch.start : VOCAB.pitch.stop].any())

    def _allow_onsets(self, mask: npt.NDArray[np.bool_]) -> None:
        """Allow the POS and PITCH that leave room for the notes still needed; where none does, all that may begin."""
        first = VOCAB.position.start + int(self.tables.cell_start[self.cell] - self.tables.bar_start[self.cell])
        steps, steps_enough = self._steps()
        pitches, pitches_enough = self._pitches(above=self.pitch)
        if steps_enough.any() or pitches_enough.any():
            steps, pitches = steps_enough, pitches_enough
        mask[first : first + len(steps)] = steps
        mask[VOCAB.pitch.start : VOCAB.pitch.stop] = pitches

    def _need(self) -> int:
        """Return how many notes the cell must still have."""
        return max(0, int(self.tables.min_notes[self.cell]) - self.count)

    def _room(self) -> npt.NDArray[np.int64]:
        return room(self.tables, self.cell, self.max_duration, self.sounding)

    def _steps(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return for each step of the cell whether POS may name it, and whether that leaves room for the minimum."""
        places = self._room()
        steps = int(self.tables.cell_start[self.cell]) + np.arange(len(places))
        is_open = (places > 0) & (steps > self.step) & (steps < self.tables.last_end[self.cell])
        return is_open, is_open & (places[::-1].cumsum()[::-1] >= self._need())

    def _pitches(self, *, above: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which of the 128 pitches may begin at this step, and which of them leave room for the minimum."""
        tables, cell, step = self.tables, self.cell, self.step
        none = np.zeros(128, dtype=bool)
        if above > 127 or step < 0:  # the cell has no note yet
            return none, none
        voices = tables.max_polyphony - int(self.sounding[tables.cell_row[cell], step])
        if voices <= 0 or step >= tables.last_end[cell]:
            return none, none
        is_open = (self.max_duration[tables.cell_group[cell], step] > 0) & tables.pitch_allowed[cell]
        is_open[: above + 1] = False
        higher = is_open.sum() - np.cumsum(is_open)
        later = self._room()[step + 1 - int(tables.cell_start[cell]) :].sum()
        return is_open, is_open & (np.minimum(higher, voices - 1) + later >= self._need() - 1)

    def _durations(self) -> npt.NDArray[np.bool_]:
        """Return which duration bins the note at (step, pitch) may have."""
        tables, cell, step = self.tables, self.cell, self.step
        full = self.sounding[tables.cell_row[cell], step:] >= tables.max_polyphony
        free = int(full.argmax()) if full.any() else len(full)
        longest = min(int(self.max_duration[tables.cell_group[cell], step, self.pitch]), free)
        longest = min(longest, int(tables.last_end[cell]) - step)
        durations = longest >= _DURATIONS
        if self._need() > 1:
            enough = durations & (self._room_after(_DURATIONS) >= self._need() - 1)
            return enough if enough.any() else durations
        return durations

    def _room_after(self, durations: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how many more notes would fit if the note at (step, pitch) had each of these durations."""
        tables, cell, step = self.tables, self.cell, self.step
        group, row = tables.cell_group[cell], tables.cell_row[cell]
        pitches = (self.max_duration[group, step] > 0) & tables.pitch_allowed[cell]
        voices = tables.max_polyphony - int(self.sounding[row, step]) - 1
        here = min(int(pitches[self.pitch + 1 :].sum()), voices)
        later = slice(step + 1, int(tables.cell_end[cell]))
        open_pitches = (self.max_duration[group, later] > 0) & tables.pitch_allowed[cell]
        count, taken = open_pitches.sum(axis=1), open_pitches[:, self.pitch]
        voices_later = tables.max_polyphony - self.sounding[row, later].astype(np.int64)
        free = np.minimum(count, np.maximum(0, voices_later))
        under = np.minimum(count - taken, np.maximum(0, voices_later - 1))
        lost = np.concatenate(([0], (free - under).cumsum()))
        after: npt.NDArray[np.int64] = here + free.sum() - lost[np.minimum(durations - 1, len(free))]
        return after


def open_grammar(tables: FillTables) -> RowGrammar:
    """Return the grammar of a fill at its beginning."""
    return AttributeGrammar(tables) if tables.attributes else FillGrammar(tables)


def check_fill(tables: FillTables, tokens: Sequence[int] | npt.NDArray[np.integer]) -> None:
    """Raise TokenError where a whole fill, forced tokens and EOS included, breaks its grammar."""
    grammar = open_grammar(tables)
    for token in tokens:
        grammar.advance(int(token))
    if not grammar.finished:
        raise TokenError(f"the fill breaks off after {len(tokens)} tokens; {grammar.describe_allowed()}")
