"""The tokens of a fill from the notes of its cells, and back."""

# F fill tokens

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import TokenError
from harmonixr_model.music.region import NoteKey
from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.layout import InfillLayout, InfillPrompt

EOS, END = VOCAB.id("EOS"), VOCAB.id("END")


def target_notes(layout: InfillLayout, full: EncodedScore, locks: Collection[NoteKey] = ()) -> list[tuple[Note, ...]]:
    """Return the notes of the full score that each cell hides, in fill order."""
    return [full.hidden(cell, locks) for cell in layout.cells]


def fill_length(full: EncodedScore, cells: Iterable[GridCell], locks: Collection[NoteKey] = ()) -> int:
    """Return the most tokens that the target of these cells takes, EOS included."""
    tokens = 1
    for cell in cells:
        # FILL BARIDX TRACK, the cell's tokens, and HOLD PITCH DUR of each held note
        header = 3 + len(cell.header_tokens) + 3 * len(full.held(cell.track, cell.start))
        tokens += header + cell.max_length(full.hidden(cell, locks))
    return tokens


def encode_fill(
    layout: InfillLayout, notes_by_cell: Sequence[Iterable[Note]]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Return the fill int32 [F] of these notes, and which of its tokens are forced, bool [F].

    Raises TokenError where a note is outside its cell. `check_fill` checks the grammar.
    """
    tokens: list[int] = []
    is_forced: list[bool] = []
    for cell, header, bar_start, given in zip(
        layout.cells, layout.headers, layout.bar_starts, notes_by_cell, strict=True
    ):
        notes = list(given)
        for note in notes:
            if not cell.contains(note):
                raise TokenError(f"{note} is outside its cell, {cell}")
        body, is_known = cell.encode(notes, bar_start)
        tokens += (*header, *body)
        is_forced += (*(True,) * len(header), *is_known)
    return np.array([*tokens, EOS], dtype=np.int32), np.array([*is_forced, True], dtype=bool)


def decode_fill(prompt: InfillPrompt, tokens: Sequence[int] | npt.NDArray[np.integer]) -> list[tuple[Note, ...]]:
    """Return the notes of each cell, in absolute steps, with velocities clamped to the constraints.

    `tokens` is a whole fill, forced tokens and EOS included. Raises TokenError where it is not one of this prompt.
    """
    ids = [int(token) for token in tokens]
    fills: list[tuple[Note, ...]] = []
    at = 0
    for header in prompt.headers:
        if tuple(ids[at : at + len(header)]) != header:
            raise TokenError(f"token {at + 1} of the fill does not begin the header of cell {len(fills) + 1}")
        at += len(header)
        try:
            end = ids.index(END, at)
        except ValueError:
            raise TokenError(f"cell {len(fills) + 1} of the fill has no END") from None
        fills.append(decode_cell(prompt, len(fills), ids[at:end]))
        at = end + 1
    if ids[at:] != [EOS]:
        raise TokenError("the fill does not close with EOS after its last cell")
    return fills


def decode_cell(prompt: InfillPrompt, number: int, tokens: Sequence[int]) -> tuple[Note, ...]:
    """Return the notes of one cell of a fill from its tokens without header and END; see `decode_fill`."""
    cell, bar_start, tables = prompt.cells[number], prompt.bar_starts[number], prompt.tables
    notes = cell.decode(tokens, bar_start)
    if not cell.fills_velocity:
        return tuple(notes)
    low, high = tables.velocity_min, tables.velocity_max
    return tuple(note._replace(velocity=min(max(note.velocity, low), high)) for note in notes)
