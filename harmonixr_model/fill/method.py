"""The two ways to fill a region: whole notes, or one field of the region's notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from harmonixr_model.errors import ControlError
from harmonixr_model.fill.note_fill import NoteFill
from harmonixr_model.fill.single_field_fill import SingleFieldFill
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Track
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import EditedSong
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, NoteField
from harmonixr_model.prompt.controls import AttributeControls
from harmonixr_model.prompt.layout import InfillPrompt


class FillMethod(Protocol):
    """The parts of a fill session that depend on what the model may change."""

    def select_cells(self, cells: Sequence[GridCell]) -> tuple[GridCell, ...]:
        """Return the cells to fill, of the region's cells on the grid."""

    def expected_lengths(self, context: EncodedScore, cells: Iterable[GridCell]) -> dict[GridCell, int]:
        """Return the expected tokens of each cell in prompt and fill together."""

    def expected_fill_length(self, context: EncodedScore, cells: Sequence[GridCell]) -> int:
        """Return the expected tokens of the fill of these cells."""

    def in_ticks(self, cell: GridCell, notes: Sequence[Note]) -> list[Note]:
        """Return the notes of a filled cell in the song's ticks."""

    def insert(self, fills: Iterable[tuple[GridCell, Sequence[Note]]]) -> EditedSong:
        """Return the song with the filled cells, given in grid steps."""


def fill_method(
    song: Song,
    region: Region,
    *,
    field: NoteField | None,
    constraints: Constraints,
    controls: AttributeControls,
    new_track: Track | None,
) -> FillMethod:
    """Return the method that fills whole notes, or only `field`; raises ControlError where the rest does not apply."""
    if field is None or region.is_empty:
        return NoteFill(song, region, new_track)
    if new_track is not None:
        raise ControlError(f"a new track has no notes whose {field} could change; leave one of the two out")
    constraints.check_field(field)
    controls.check_field(field)
    return SingleFieldFill(song, region, field, (constraints.velocity_min, constraints.velocity_max))


def notes_in_ticks(song: Song, region: Region, prompt: InfillPrompt, number: int, notes: Sequence[Note]) -> list[Note]:
    """Return the notes of the prompt's cell `number` in the song's ticks, as the finished song will hold them.

    The finished song may shorten or drop a note that collides with another.
    """
    cell, tables = prompt.cells[number], prompt.tables
    if cell.field is None:
        return NoteFill(song, region).in_ticks(cell, notes)
    return SingleFieldFill(song, region, cell.field, (tables.velocity_min, tables.velocity_max)).in_ticks(cell, notes)
