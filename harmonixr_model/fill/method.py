"""The two ways to fill a region: whole notes, or one field of the region's notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from harmonixr_model.errors import ControlError
from harmonixr_model.fill.note_fill import NoteFill
from harmonixr_model.fill.single_field_fill import SingleFieldFill
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Track
from harmonixr_model.music.song import Song
from harmonixr_model.notes.encoded_score import NoteField
from harmonixr_model.prompt.controls import AttributeControls
from harmonixr_model.prompt.layout import InfillPrompt

# The parts of a fill session that depend on what the model may change.
FillMethod: TypeAlias = NoteFill | SingleFieldFill


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
