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
from harmonixr_model.notes.encoded_score import DURATION_TOKENS, VELOCITY_TOKENS, GridCell, NoteField
from harmonixr_model.notes.vocabulary import DURATIONS, MAX_DURATION, VOCAB, velocity_of

NOTE_FIELDS: tuple[NoteField, ...] = ("pitch", "rhythm", "velocity", "duration")
END = VOCAB.id("END")
_HIDDEN_PITCH, _HIDDEN_VEL, _HIDDEN_DUR, _HIDDEN_ONSET = (
    VOCAB.id(name) for name in ("HIDDEN_PITCH", "HIDDEN_VEL", "HIDDEN_DUR", "HIDDEN_ONSET")
)
HIDDEN: dict[NoteField, int] = {
    "pitch": _HIDDEN_PITCH,
    "rhythm": _HIDDEN_ONSET,
    "velocity": _HIDDEN_VEL,
    "duration": _HIDDEN_DUR,
}
_BLANK: dict[NoteField, dict[str, int]] = {
    "pitch": {"pitch": 0},
    "rhythm": {"onset": 0, "duration": 0},
    "velocity": {"velocity": 0},
    "duration": {"duration": 0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFieldCell(GridCell):
    """A cell whose fill sets one field of the notes `known`, in their order; they have it blanked."""

    field: NoteField
    known: tuple[Note, ...]

    @property
    def fills_velocity(self) -> bool:
        """Whether the fill sets the velocity of its notes."""
        return self.field == "velocity"

    @property
    def header_tokens(self) -> tuple[int, ...]:
        """The tokens of the cell's header after FILL BARIDX TRACK."""
        return (HIDDEN[self.field], *self.controls)

    def prefix_tokens(self, bar_start: int) -> list[int]:
        """Return the tokens of the cell's known notes in the prefix, with HIDDEN tokens for the field."""
        tokens: list[int] = []
        position = -1
        for note in self.known:
            if self.field == "rhythm":
                tokens.append(_HIDDEN_ONSET)
            elif note.onset != position:
                position = note.onset
                tokens.append(VOCAB.position.start + note.onset - bar_start)
            tokens.append(_HIDDEN_PITCH if self.field == "pitch" else VOCAB.pitch.start + note.pitch)
            tokens.append(_HIDDEN_DUR if self.field in ("duration", "rhythm") else _duration_token(note.duration))
            tokens.append(_HIDDEN_VEL if self.field == "velocity" else VELOCITY_TOKENS[note.velocity])
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
        position = -1
        for known, note in zip(self.known, new_notes, strict=True):
            onset = note.onset if self.field == "rhythm" else known.onset
            if self.field == "rhythm" or onset != position:
                position = onset
                tokens.append(VOCAB.position.start + onset - bar_start)
                is_forced.append(self.field != "rhythm")
            fills_duration = self.field in ("rhythm", "duration")
            tokens.append(VOCAB.pitch.start + (note.pitch if self.field == "pitch" else known.pitch))
            tokens.append(_duration_token(note.duration if fills_duration else known.duration))
            is_forced += (self.field != "pitch", not fills_duration)
            if self.field == "velocity":
                tokens.append(VELOCITY_TOKENS[note.velocity])
                is_forced.append(False)
        return [*tokens, END], [*is_forced, True]

    def template(self, bar_start: int, choice: int) -> list[int]:
        """Return the tokens of the cell's fill with `choice` in place of those that are not forced."""
        notes = [note._replace(onset=bar_start) if self.field == "rhythm" else note for note in self.known]
        tokens, is_forced = self.encode(notes, bar_start)
        return [token if forced else choice for token, forced in zip(tokens, is_forced, strict=True)]

    def decode(self, tokens: Sequence[int], bar_start: int) -> list[Note]:
        """Return the cell's notes with the field from its fill (END left out). Raises TokenError at a wrong token."""
        given = iter(tokens)
        notes: list[Note] = []
        position = -1
        for known in self.known:
            onset, duration, pitch, velocity = known
            if self.field == "rhythm":
                onset = bar_start + _value(given, "position")
            elif onset != position:
                position = onset
                _expect(given, VOCAB.position.start + onset - bar_start)
            if self.field == "pitch":
                pitch = _value(given, "pitch")
            else:
                _expect(given, VOCAB.pitch.start + pitch)
            if self.field in ("rhythm", "duration"):
                duration = DURATIONS[_value(given, "duration")]
            else:
                _expect(given, _duration_token(duration))
            if self.field == "velocity":
                velocity = velocity_of(_value(given, "velocity"))
            notes.append(Note(onset, duration, pitch, velocity))
        if next(given, None) is not None:
            raise TokenError(f"the fill has tokens after the {len(self.known)} notes of its cell")
        return notes

    def max_length(self, notes: Sequence[Note]) -> int:
        """Return the most tokens that a fill of so many notes takes, END included."""
        return (4 if self.field == "velocity" else 3) * len(notes) + 1


def single_field_cell(cell: GridCell, field: NoteField, notes: Sequence[Note]) -> SingleFieldCell:
    """Return the cell that fills one field of these notes, in order."""
    known = tuple(note._replace(**_BLANK[field]) for note in notes)
    return SingleFieldCell(
        cell.track, cell.start, cell.end, cell.low, cell.high, cell.controls, field=field, known=known
    )


def _duration_token(steps: int) -> int:
    return DURATION_TOKENS[min(steps, MAX_DURATION)]


def _value(given: Iterator[int], block: str) -> int:
    token = next(given, None)
    if token is None or token not in getattr(VOCAB, block):
        found = "nothing" if token is None else VOCAB.name(token)
        raise TokenError(f"the fill has {found} where a {block} belongs")
    return token - int(getattr(VOCAB, block).start)


def _expect(given: Iterator[int], token: int) -> None:
    found = next(given, None)
    if found != token:
        name = "nothing" if found is None else VOCAB.name(found)
        raise TokenError(f"the fill has {name} where {VOCAB.name(token)} is forced")
