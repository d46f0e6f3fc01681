"""Tokens of single-field cells: one field of each known note is filled, all other fields stay as they are.

The prefix has the cell's notes after its MASK, in their original order. A HIDDEN token replaces the field, and every
note has its velocity:

    pitch      POS HIDDEN_PITCH DUR VEL …        rhythm     HIDDEN_ONSET PITCH HIDDEN_DUR VEL …
    velocity   POS PITCH DUR HIDDEN_VEL …        duration   POS PITCH HIDDEN_DUR VEL …

The fill has the notes in the same order. Known tokens are forced (*) and only identify the note:

    pitch      POS* PITCH DUR* …                 rhythm     POS PITCH* DUR …
    velocity   POS* PITCH* DUR* VEL …            duration   POS* PITCH* DUR …

POS occurs where the onset changes, in a rhythm at each note. END* follows the last note. A known DUR is repeated so
that the filled field follows the same tokens as in whole fills; models learn this sooner (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harmonixr_model.errors import TokenError
from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import GridCell, NoteField, decode_notes, encode_notes
from harmonixr_model.notes.vocabulary import VOCAB, Block

NOTE_FIELDS: tuple[NoteField, ...] = ("pitch", "rhythm", "velocity", "duration")
END = VOCAB.id("END")
# The attributes of a note in the order of its tokens POS PITCH DUR VEL, with their blocks and HIDDEN tokens.
_NAMES = ["onset", "pitch", "duration", "velocity"]
_BLOCKS = dict(zip(_NAMES, (VOCAB.position, VOCAB.pitch, VOCAB.duration, VOCAB.velocity), strict=True))
_HIDDEN_TOKENS = {
    name: VOCAB.id(f"HIDDEN_{kind}") for name, kind in zip(_NAMES, ("ONSET", "PITCH", "DUR", "VEL"), strict=True)
}
_FILLED = {field: ("onset", "duration") if field == "rhythm" else (field,) for field in NOTE_FIELDS}
HIDDEN: dict[NoteField, int] = {field: _HIDDEN_TOKENS[filled[0]] for field, filled in _FILLED.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFieldCell(GridCell):
    """A cell whose fill sets one field of the notes `known`, in their order; they have it blanked."""

    field: NoteField
    known: tuple[Note, ...]

    @property
    def header_tokens(self) -> tuple[int, ...]:
        """The tokens of the cell's header after FILL BARIDX TRACK."""
        return (HIDDEN[self.field], *self.controls)

    def prefix_tokens(self, bar_start: int) -> list[int]:
        """Return the tokens of the cell's known notes in the prefix, with HIDDEN tokens for the field."""
        tokens: list[int] = []
        for note, names in self._notes_with_names():
            row = _row(note, bar_start)
            shown = names if self.field == "velocity" else [*names, "velocity"]
            tokens += (_HIDDEN_TOKENS[name] if name in _FILLED[self.field] else row[name] for name in shown)
        return tokens

    def encode(self, notes: Iterable[Note], bar_start: int) -> tuple[list[int], list[bool]]:
        """Return the fill that takes the field from `notes`, END included, and which of its tokens are forced."""
        new_notes = list(notes)
        if len(new_notes) != len(self.known):
            raise TokenError(
                f"{len(new_notes)} notes for a cell of {len(self.known)}; give one for each, in their order"
            )
        tokens: list[int] = []
        is_forced: list[bool] = []
        for (known, names), note in zip(self._notes_with_names(), new_notes, strict=True):
            old_row, new_row = _row(known, bar_start), _row(note, bar_start)
            tokens += ((new_row if name in _FILLED[self.field] else old_row)[name] for name in names)
            is_forced += (name not in _FILLED[self.field] for name in names)
        return [*tokens, END], [*is_forced, True]

    def template(self, bar_start: int, choice: int) -> list[int]:
        """Return the tokens of the cell's fill with `choice` in place of those that are not forced."""
        tokens, is_forced = self.encode(self.known, bar_start)
        return [token if forced else choice for token, forced in zip(tokens, is_forced, strict=True)]

    def decode(self, tokens: Sequence[int], bar_start: int) -> list[Note]:
        """Return the cell's notes with the field from its fill (END left out). Raises TokenError at a wrong token."""
        given = iter(tokens)
        notes: list[Note] = []
        for known, names in self._notes_with_names():
            row = _row(known, bar_start)
            for name in names:
                allowed = _BLOCKS[name] if name in _FILLED[self.field] else Block(row[name], 1)
                row[name] = _checked(next(given, None), allowed)
            (made,) = decode_notes(list(row.values()), bar_start)
            notes.append(known._replace(**{name: getattr(made, name) for name in _FILLED[self.field]}))
        if next(given, None) is not None:
            raise TokenError(f"the fill has tokens after the {len(self.known)} notes of its cell")
        return notes

    def _notes_with_names(self) -> Iterator[tuple[Note, list[str]]]:
        """Yield each known note and the attributes whose tokens the fill has for it, in their order."""
        position = -1
        for note in self.known:
            has_position = self.field == "rhythm" or note.onset != position
            position = note.onset
            yield note, _NAMES[0 if has_position else 1 : 4 if self.field == "velocity" else 3]

    def max_length(self, notes: Sequence[Note]) -> int:
        """Return the most tokens that a fill of so many notes takes, END included."""
        return (4 if self.field == "velocity" else 3) * len(notes) + 1


def single_field_cell(cell: GridCell, field: NoteField, notes: Sequence[Note]) -> SingleFieldCell:
    """Return the cell that fills one field of these notes, in order."""
    known = tuple(note._replace(**dict.fromkeys(_FILLED[field], 0)) for note in notes)
    return SingleFieldCell(
        cell.track, cell.start, cell.end, cell.low, cell.high, cell.controls, field=field, known=known
    )


def _row(note: Note, bar_start: int) -> dict[str, int]:
    """Return the four tokens of a note alone by attribute."""
    return dict(zip(_NAMES, encode_notes([note], bar_start), strict=True))


def _checked(token: int | None, allowed: Block) -> int:
    """Return the token; raises TokenError where it is missing or not allowed."""
    if token is None or token not in allowed:
        found = "nothing" if token is None else VOCAB.name(token)
        raise TokenError(f"the fill has {found} where a token such as {VOCAB.name(allowed.start)} belongs")
    return token
