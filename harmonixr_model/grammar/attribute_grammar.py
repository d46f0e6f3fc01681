"""The grammar of single-field fills in plain numpy, for one row; `attribute_tables` defines it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harmonixr_model.grammar.attribute_tables import latest_steps, reserve
from harmonixr_model.grammar.fill_tables import CHOICE, FieldTemplate, FillTables, occupy
from harmonixr_model.grammar.row_grammar import RowGrammar
from harmonixr_model.notes.vocabulary import DURATIONS, VOCAB

_DURATIONS = np.array(DURATIONS)


class AttributeGrammar(RowGrammar):
    """The state of one single-field fill."""

    def __init__(self, tables: FillTables) -> None:
        assert tables.attributes is not None
        self.attributes = tables.attributes
        self._placed: list[tuple[int, int, int, int]] = []  # group, onset, duration, pitch
        super().__init__(tables)

    def _open_cell(self) -> None:
        self._template = list(self.attributes.templates[self.cell])
        self._note = 0  # index within the cell of the note whose field is sampled next
        self._previous = (-1, -1)  # onset and pitch of the previous note
        self._step = -1  # in a rhythm, the onset of the note whose duration comes next
        if self.attributes.field == "rhythm":
            self._release()
        self._force_until_choice()

    def _force_until_choice(self) -> None:
        while self._template and self._template[0] != CHOICE:
            self._forced.append(self._template.pop(0))
        if not self._template:
            self._open_next_cell()

    def _allow_choices(self, mask: npt.NDArray[np.bool_]) -> None:
        if self.attributes.field == "pitch":
            mask[VOCAB.pitch.start : VOCAB.pitch.stop] = self._pitches()
        elif self.attributes.field == "velocity":
            mask[VOCAB.velocity.start : VOCAB.velocity.stop] = self.tables.velocity_allowed
        elif self.attributes.field == "duration" or self._step >= 0:
            mask[VOCAB.duration.start : VOCAB.duration.stop] = self._longest() >= _DURATIONS
        else:
            mask[VOCAB.position.start - int(self.tables.bar_start[self.cell]) + self._steps()] = True

    def _take_choice(self, token: int) -> None:
        self._set_field(token)
        self._template.pop(0)
        self._force_until_choice()

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

    def _release(self) -> None:
        """Free the steps reserved for this cell and earlier ones, and compute how late its notes may begin."""
        tables, cell = self.tables, self.cell
        np.copyto(self.max_duration, tables.max_duration)
        for group, onset, duration, pitch in self._placed:
            occupy(self.max_duration[group, :, pitch], onset, onset + duration)
        for later in range(cell + 1, tables.cells):
            reserve(self.max_duration[tables.cell_group[later]], self.attributes.notes[later])
        self._latest = latest_steps(tables, cell, self.attributes.notes[cell], self._free())

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
