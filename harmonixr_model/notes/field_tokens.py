"""Attribute-field cells: one field of each note is asked for, the others stand in the prefix and stay as they are.

In the prefix, after the cell's MASK, its notes in their original order with a HIDDEN token in place of what is asked,
velocity said for each:

    pitch      POS HIDDEN_PITCH DUR VEL …        rhythm     HIDDEN_ONSET PITCH HIDDEN_DUR VEL …
    velocity   POS PITCH DUR HIDDEN_VEL …        duration   POS PITCH HIDDEN_DUR VEL …

The answer goes through the notes in the same order; what is known is forced (*) and field says which note is meant:

    pitch      POS* PITCH DUR* …                 rhythm     POS PITCH* DUR …
    velocity   POS* PITCH* DUR* VEL …            duration   POS* PITCH* DUR …

POS is said where the onset changes, in a rhythm at each note. END* follows the last note. DUR is said again where it is
known: what is asked then stands as it does in whole fills, and a model knows at once what belongs there (docs/log.md).
Knows nothing of prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harmonixr_model.errors import TokenError
from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import GridCell, NoteField
from harmonixr_model.notes.vocabulary import DURATIONS, VOCAB, duration_bin, velocity_bin, velocity_of

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


def single_field_cell(cell: GridCell, field: NoteField, notes: Sequence[Note]) -> GridCell:
    """Return the cell that asks for one field of these notes, in order; what is asked is blanked out of them."""
    return replace(cell, field=field, known=tuple(_blanked(note, field) for note in notes))


def hidden_field_tokens(cell: GridCell, bar_start: int) -> list[int]:
    """Return what the prefix says of the cell's notes."""
    tokens: list[int] = []
    position = -1
    for note in cell.known:
        if cell.field == "rhythm":
            tokens.append(_HIDDEN_ONSET)
        elif note.onset != position:
            position = note.onset
            tokens.append(VOCAB.position.start + note.onset - bar_start)
        tokens.append(_HIDDEN_PITCH if cell.field == "pitch" else VOCAB.pitch.start + note.pitch)
        tokens.append(_HIDDEN_DUR if cell.field in ("duration", "rhythm") else duration_token(note.duration))
        tokens.append(_HIDDEN_VEL if cell.field == "velocity" else velocity_token(note.velocity))
    return tokens


def encode_field(cell: GridCell, notes: Sequence[Note], bar_start: int) -> tuple[list[int], list[bool]]:
    """Return the answer that gives the cell's notes the asked field of `notes`, END included, and what is forced."""
    if len(notes) != len(cell.known):
        raise TokenError(f"{len(notes)} notes answer a cell of {len(cell.known)}; give one for each, in their order")
    tokens: list[int] = []
    is_forced: list[bool] = []
    position = -1
    for known, note in zip(cell.known, notes, strict=True):
        onset = note.onset if cell.field == "rhythm" else known.onset
        if cell.field == "rhythm" or onset != position:
            position = onset
            tokens.append(VOCAB.position.start + onset - bar_start)
            is_forced.append(cell.field != "rhythm")
        is_timed = cell.field in ("rhythm", "duration")
        tokens.append(VOCAB.pitch.start + (note.pitch if cell.field == "pitch" else known.pitch))
        tokens.append(duration_token(note.duration if is_timed else known.duration))
        is_forced += (cell.field != "pitch", not is_timed)
        if cell.field == "velocity":
            tokens.append(velocity_token(note.velocity))
            is_forced.append(False)
    return [*tokens, END], [*is_forced, True]


def field_template(cell: GridCell, bar_start: int, choice: int) -> list[int]:
    """Return the answer's tokens with `choice` in place of those that are not forced."""
    notes = [note._replace(onset=bar_start) if cell.field == "rhythm" else note for note in cell.known]
    tokens, is_forced = encode_field(cell, notes, bar_start)
    return [token if forced else choice for token, forced in zip(tokens, is_forced, strict=True)]


def decode_field(cell: GridCell, tokens: Sequence[int], bar_start: int) -> list[Note]:
    """Return the cell's notes with the field that an answer (END left out) says. Raises TokenError at a slip."""
    said = iter(tokens)
    notes: list[Note] = []
    position = -1
    for known in cell.known:
        onset, duration, pitch, velocity = known
        if cell.field == "rhythm":
            onset = bar_start + _value(said, "position")
        elif onset != position:
            position = onset
            _expect(said, VOCAB.position.start + onset - bar_start)
        if cell.field == "pitch":
            pitch = _value(said, "pitch")
        else:
            _expect(said, VOCAB.pitch.start + pitch)
        if cell.field in ("rhythm", "duration"):
            duration = DURATIONS[_value(said, "duration")]
        else:
            _expect(said, duration_token(duration))
        if cell.field == "velocity":
            velocity = velocity_of(_value(said, "velocity"))
        notes.append(Note(onset, duration, pitch, velocity))
    if next(said, None) is not None:
        raise TokenError(f"the answer says more than the {len(cell.known)} notes it was asked about")
    return notes


def field_length(cell: GridCell, *, notes: int) -> int:
    """Return the most tokens the answer to a cell of so many notes takes, END included."""
    return (4 if cell.field == "velocity" else 3) * notes + 1


def duration_token(steps: int) -> int:
    """Return the token of a duration."""
    return VOCAB.duration.start + duration_bin(steps)


def velocity_token(velocity: int) -> int:
    """Return the token of a velocity."""
    return VOCAB.velocity.start + velocity_bin(velocity)


def _blanked(note: Note, field: NoteField) -> Note:
    if field == "pitch":
        return note._replace(pitch=0)
    if field == "velocity":
        return note._replace(velocity=0)
    return note._replace(duration=0) if field == "duration" else note._replace(onset=0, duration=0)


def _value(said: Iterator[int], block: str) -> int:
    token = next(said, None)
    if token is None or token not in getattr(VOCAB, block):
        found = "nothing" if token is None else VOCAB.name(token)
        raise TokenError(f"the answer says {found} where a {block} is asked")
    return token - int(getattr(VOCAB, block).start)


def _expect(said: Iterator[int], token: int) -> None:
    found = next(said, None)
    if found != token:
        name = "nothing" if found is None else VOCAB.name(found)
        raise TokenError(f"the answer says {name} where {VOCAB.name(token)} is known to stand")
