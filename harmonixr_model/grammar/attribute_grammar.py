"""The grammar of single-field fills in plain numpy, for one row; `attribute_tables` defines it.

`AttributeGrammar` has the interface of `FillGrammar`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import TokenError
from harmonixr_model.grammar.attribute_tables import (
    CHOICE,
    AttributeTables,
    FieldTemplate,
    latest_steps,
    reserve,
)
from harmonixr_model.grammar.fill_tables import FillTables
from harmonixr_model.grammar.occupancy import occupy
from harmonixr_model.notes.vocabulary import DURATIONS, VOCAB

EOS = VOCAB.id("EOS")
_DURATIONS = np.array(DURATIONS)


def describe(allowed: npt.NDArray[np.bool_]) -> str:
    """Describe which tokens may come next, for an error message."""
    names = [VOCAB.name(int(token)) for token in np.flatnonzero(allowed)]
    if not names:
        return "the fill is finished"
    return "allowed are " + ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


class AttributeGrammar:
    """The state of one single-field fill. `allowed` is never empty before `finished`."""

    def __init__(self, tables: FillTables, attributes: AttributeTables) -> None:
        self.tables = tables
        self.attributes = attributes
        self.used = 0
        self.cell = -1
        self.max_duration = tables.max_duration.copy()
        self._placed: list[tuple[int, int, int, int]] = []  # group, onset, duration, pitch
        self._left: list[int] = []  # tokens of the cell still to come, CHOICE where one is sampled
        self._note = 0  # index within the cell of the note whose field is sampled next
        self._previous: tuple[int, int] = (-1, -1)  # onset and pitch of the previous note
        self._step = -1  # in a rhythm, the onset of the note whose duration comes next
        self._latest: list[int] = []
        self._open_cell(0)

    @property
    def finished(self) -> bool:
        """Whether EOS has been emitted."""
        return not self._left

    @property
    def forced(self) -> int | None:
        """The token that must come next, where there is no choice."""
        return self._left[0] if self._left and self._left[0] != CHOICE else None

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Return which tokens may come next, bool [V]; all False once finished."""
        mask = np.zeros(VOCAB.size, dtype=bool)
        if self._left and self._left[0] != CHOICE:
            mask[self._left[0]] = True
        elif self._left and self.attributes.field == "pitch":
            mask[VOCAB.pitch.start : VOCAB.pitch.stop] = self._pitches()
        elif self._left and self.attributes.field == "velocity":
            mask[VOCAB.velocity.start : VOCAB.velocity.stop] = self.tables.velocity_allowed
        elif self._left and (self.attributes.field == "duration" or self._step >= 0):
            mask[VOCAB.duration.start : VOCAB.duration.stop] = self._longest() >= _DURATIONS
        elif self._left:
            first = VOCAB.position.start - int(self.tables.bar_start[self.cell])
            mask[first + self._steps()] = True
        return mask

    def advance(self, token: int) -> None:
        """Take one token. Raises TokenError, changing nothing, where the token is not allowed."""
        if not (0 <= token < VOCAB.size and self.allowed()[token]):
            name = VOCAB.name(token)
            raise TokenError(f"{name} is not allowed as token {self.used + 1} of the fill; {describe(self.allowed())}")
        self.used += 1
        if self._left.pop(0) == CHOICE:
            self._set_field(token)
        elif not self._left and token != EOS:
            self._open_cell(self.cell + 1)

    def _set_field(self, token: int) -> None:
        note = self._current
        if self.attributes.field == "pitch":
            self._place(note.onset, note.duration, VOCAB.pitch.index(token))
        elif token in VOCAB.position:
            self._step = int(self.tables.bar_start[self.cell]) + VOCAB.position.index(token)
            return
        elif self.attributes.field == "rhythm":
            if note.reserved >= 0:
                self._place(self._step, DURATIONS[VOCAB.duration.index(token)], note.pitch)
            self._previous, self._step = (self._step, note.pitch), -1
        self._note += 1

    def _place(self, onset: int, duration: int, pitch: int) -> None:
        group = int(self.tables.cell_group[self.cell])
        occupy(self.max_duration[group, :, pitch], onset, onset + duration)
        self._placed.append((group, onset, duration, pitch))
        self._previous = onset, pitch

    def _open_cell(self, cell: int) -> None:
        if cell == self.tables.cells:
            self._left = [EOS]
            return
        self.cell, self._note, self._previous = cell, 0, (-1, -1)
        self._left = [*self.tables.headers[cell].tolist(), *self.attributes.templates[cell]]
        if self.attributes.field == "rhythm":
            self._release(cell)

    def _release(self, cell: int) -> None:
        """Free the steps reserved for this cell and earlier ones, and compute how late its notes may begin."""
        np.copyto(self.max_duration, self.tables.max_duration)
        for group, onset, duration, pitch in self._placed:
            occupy(self.max_duration[group, :, pitch], onset, onset + duration)
        for later in range(cell + 1, self.tables.cells):
            reserve(self.max_duration[self.tables.cell_group[later]], self.attributes.notes[later])
        notes = self.attributes.notes[cell]
        self._latest = latest_steps(
            notes,
            [note.reserved < 0 for note in notes],
            start=int(self.tables.cell_start[cell]),
            end=int(self.tables.cell_end[cell]),
            longest=self.max_duration[self.tables.cell_group[cell]],
        )

    @property
    def _current(self) -> FieldTemplate:
        return self.attributes.notes[self.cell][self._note]

    def _free(self) -> npt.NDArray[np.int16]:
        table: npt.NDArray[np.int16] = self.max_duration[self.tables.cell_group[self.cell]]
        return table

    def _pitches(self) -> npt.NDArray[np.bool_]:
        """Return which of the 128 pitches the note may take."""
        notes, note = self.attributes.notes[self.cell], self._current
        highest = 128
        for other in reversed([n for n in notes[self._note + 1 :] if n.onset == note.onset]):
            open_pitches = np.flatnonzero(self._open(other)[:highest])
            highest = int(open_pitches[-1]) if len(open_pitches) else 0
        pitches = self._open(note)
        pitches[highest:] = False
        if self._previous[0] == note.onset:
            pitches[: self._previous[1] + 1] = False
        return pitches

    def _open(self, note: FieldTemplate) -> npt.NDArray[np.bool_]:
        is_open: npt.NDArray[np.bool_] = self._free()[note.onset] >= note.duration
        is_open &= self.tables.pitch_allowed[self.cell]
        return is_open

    def _steps(self) -> npt.NDArray[np.int64]:
        """Return the steps at which the note may begin."""
        note = self._current
        first = max(int(self.tables.cell_start[self.cell]), self._previous[0])
        steps = np.arange(first, self._latest[self._note] + 1, dtype=np.int64)
        is_free = np.ones(len(steps), dtype=bool) if note.reserved < 0 else self._free()[steps, note.pitch] > 0
        return np.compress(is_free, steps)

    def _longest(self) -> int:
        """Return the longest duration the note may have."""
        note = self._current
        if self.attributes.field == "duration":
            return note.longest
        if note.reserved < 0:
            return int(_DURATIONS[-1])
        notes = self.attributes.notes[self.cell]
        later = [
            self._latest[i] - self._step
            for i in range(self._note + 1, len(notes))
            if notes[i].pitch == note.pitch and notes[i].reserved >= 0
        ]
        return min([int(self._free()[self._step, note.pitch]), *later[:1]])
