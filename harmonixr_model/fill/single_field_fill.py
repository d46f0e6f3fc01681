"""Single-field fill: the model changes one field of the region's notes, and nothing else.

A field that keeps its grid value keeps its exact value in the file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harmonixr_model.errors import RegionError
from harmonixr_model.fill.grid_cells import region_cell, steps_of
from harmonixr_model.music.edit_field import edit_notes
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import EditedSong
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, NoteField
from harmonixr_model.notes.field_tokens import single_field_cell
from harmonixr_model.notes.grid import GRID, to_step, to_tick
from harmonixr_model.notes.vocabulary import DURATIONS, duration_bin, velocity_bin, velocity_of

# The header of a cell, and its controls and held notes besides.
_CELL_TOKENS, _HELD_TOKENS = 6, 16


@dataclass(frozen=True, slots=True)
class SingleFieldFill:
    """The method that changes one field; `velocity_range` bounds new velocities, both ends included."""

    song: Song
    region: Region
    field: NoteField
    velocity_range: tuple[int, int] = (1, 127)

    def select_cells(self, cells: Sequence[GridCell]) -> tuple[GridCell, ...]:
        """Return the cells that have notes, with these notes; raises RegionError where no cell has any."""
        notes_of = {cell: [note for _, note in self._originals(cell)] for cell in cells}
        selected = tuple(single_field_cell(cell, self.field, notes) for cell, notes in notes_of.items() if notes)
        if cells and not selected:
            raise RegionError(f"the region has no note whose {self.field} could change; choose one that has notes")
        return selected

    def expected_lengths(self, context: EncodedScore, cells: Sequence[GridCell]) -> dict[GridCell, int]:
        """Return the tokens of each cell in prompt and fill together."""
        return {
            cell: _CELL_TOKENS + len(cell.prefix_tokens(cell.start)) + cell.max_length(cell.known) for cell in cells
        }

    def expected_fill_length(self, context: EncodedScore, cells: Sequence[GridCell]) -> int:
        """Return the most tokens that the fill of these cells takes."""
        return sum(_CELL_TOKENS + _HELD_TOKENS + cell.max_length(cell.known) for cell in cells)

    def in_ticks(self, cell: GridCell, notes: Sequence[Note]) -> list[Note]:
        """Return the song's notes of a cell with the field of these grid notes, in the song's ticks."""
        return list(self._changes(cell, notes).values())

    def insert(self, fills: Iterable[tuple[GridCell, Sequence[Note]]]) -> EditedSong:
        """Return the song with the field changed in the filled cells."""
        changes: dict[int, dict[int, Note]] = defaultdict(dict)
        for cell, notes in fills:
            changes[cell.track] |= self._changes(cell, notes)
        return edit_notes(self.song, changes)

    def _originals(self, cell: GridCell) -> list[tuple[int, Note]]:
        """Return the index in the track and the grid value of the song's notes in a cell, by (onset, pitch).

        A note whose nearest step lies just outside the region counts as on the region's edge. Of notes with equal step
        and pitch only the longest is returned; the others do not change.
        """
        per_quarter = self.song.score.ticks_per_quarter
        first, last = steps_of(region_cell(self.region, cell, per_quarter), per_quarter)
        notes = self.song.score.tracks[cell.track].notes
        margin = per_quarter // GRID + 1
        found: dict[tuple[int, int], tuple[int, Note]] = {}
        at = bisect_left(notes, to_tick(cell.start, per_quarter) - margin, key=lambda note: note.onset)
        stop = bisect_left(notes, to_tick(cell.end, per_quarter) + margin, key=lambda note: note.onset)
        for number, note in enumerate(notes[at:stop], at):
            grid_note = _on_grid(note, per_quarter)
            step = min(max(grid_note.onset, first), last - 1)
            if not (cell.start <= step < cell.end and self.region.contains(cell.track, note)):
                continue
            key = step, note.pitch
            if key not in found or grid_note.duration > found[key][1].duration:
                found[key] = number, grid_note._replace(onset=step)
        return [found[key] for key in sorted(found)]

    def _changes(self, cell: GridCell, notes: Sequence[Note]) -> dict[int, Note]:
        """Return the changed notes by their index in the track."""
        old_notes = self.song.score.tracks[cell.track].notes
        return {
            number: self._changed(cell, old_notes[number], note)
            for (number, _), note in zip(self._originals(cell), notes, strict=True)
        }

    def _changed(self, cell: GridCell, old: Note, new: Note) -> Note:
        if self.field == "pitch":
            return old._replace(pitch=new.pitch)
        if self.field == "velocity":
            low, high = self.velocity_range
            is_same = velocity_bin(old.velocity) == velocity_bin(new.velocity) and low <= old.velocity <= high
            return old if is_same else old._replace(velocity=new.velocity)
        per_quarter = self.song.score.ticks_per_quarter
        grid_note = _on_grid(old, per_quarter)
        if new.duration != grid_note.duration:
            old = old._replace(duration=max(1, to_tick(new.duration, per_quarter)))
        if self.field == "duration" or new.onset == grid_note.onset:
            return old
        bounds = region_cell(self.region, cell, per_quarter)
        return old._replace(onset=min(max(to_tick(new.onset, per_quarter), bounds.start), bounds.end - 1))


def _on_grid(note: Note, per_quarter: int) -> Note:
    onset = to_step(note.onset, per_quarter)
    duration = DURATIONS[duration_bin(to_step(note.end, per_quarter) - onset)]
    return Note(onset, duration, note.pitch, velocity_of(velocity_bin(note.velocity)))
