"""Follow remembered passages while a fill is said: what each would say next, and how well it has told so far.

A pointer network's pointer (Vinyals et al. 2015; See et al. 2017), kept by rule: where the fill leaves the passage it
finds the way back by position in the bar. How far to trust a guess is a model's matter (`infill.pointer`). Knows no
torch and draws nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import NamedTuple

from harmonixr_model.music.score import Bar, Note
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, encode_notes
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.similar_passages import Passage, passage_notes

# So many passages are followed (docs/decisions/0008).
MAX_COPY_SOURCES = 4
# Each token counts this much less, in how well a passage has told, than the one after it.
_FADING = 0.95
KINDS = ("position", "pitch", "duration", "velocity", "end")
EVIDENCE = ("always", "similarity", "told well", "told often", "others agree", "others differ")

_END = VOCAB.id("END")
_POSITION, _PITCH, _DURATION, _VELOCITY, _OTHER = range(5)
# Looked at for every token of every passage: the kind of each, END and all others last.
_KIND = bytes(
    next((k for k, b in enumerate((VOCAB.position, VOCAB.pitch, VOCAB.duration, VOCAB.velocity)) if t in b), _OTHER)
    for t in range(VOCAB.size)
)


class NoteTokens(NamedTuple):
    """A note as the tokens that say it."""

    position: int
    pitch: int
    duration: int
    velocity: int


@dataclass(frozen=True, slots=True)
class CopySource:
    """A passage moved into the gap: its notes cell by cell, in fill order, and how alike its surroundings are."""

    similarity: float
    cells: tuple[tuple[NoteTokens, ...], ...]


@dataclass(frozen=True, slots=True)
class Guess:
    """What comes next if the fill goes on as a passage does.

    Attributes:
        token: the guess.
        kind: index in KINDS of what it says.
        evidence: one number for each of EVIDENCE.
    """

    token: int
    kind: int
    evidence: tuple[float, ...]


def copy_sources(
    context: EncodedScore, cells: Sequence[GridCell], passages: Sequence[Passage], *, bars: Sequence[Bar]
) -> tuple[CopySource, ...]:
    """Return passages as pointers follow them. `cells` are in fill order, `bars` those of the song."""
    starts = [next(bar.start for bar in reversed(bars) if bar.start <= cell.start) for cell in cells]
    return tuple(
        CopySource(
            passage.similarity,
            tuple(
                note_tokens(passage_notes(context, cell, bars=bars, offset=passage.offset), start)
                for cell, start in zip(cells, starts, strict=True)
            ),
        )
        for passage in passages
    )


def note_tokens(notes: Sequence[Note], bar_start: int) -> tuple[NoteTokens, ...]:
    """Return the notes of a cell as tokens, each whole."""
    found: list[NoteTokens] = []
    for note in sorted(notes, key=lambda note: (note.onset, note.pitch)):
        # A note encoded alone emits all of its tokens.
        found.append(NoteTokens(*encode_notes([note], bar_start)))
    return tuple(found)


class CopyPointer:
    """Where the passages stand in one fill. Call `open_cell` for each cell, `advance` for each token drawn in it."""

    def __init__(self, passages: Sequence[CopySource]) -> None:
        self._passages = passages
        self._told = [0.0] * len(passages)
        self._times = [0.0] * len(passages)
        self._pointers: list[_Pointer] = []

    def open_cell(self, number: int) -> None:
        """Begin a cell, counted in fill order."""
        self._pointers = [_Pointer(passage.cells[number]) for passage in self._passages]

    def advance(self, token: int) -> None:
        """Take the token that was said."""
        for number, pointer in enumerate(self._pointers):
            if pointer.guess is not None:
                self._told[number] = self._told[number] * _FADING + (pointer.guess == token)
                self._times[number] = self._times[number] * _FADING + 1
            pointer.advance(token)

    def guess(self) -> Guess | None:
        """Return what the most trustworthy passage says next; None where no passage says anything."""
        best, token, odds, highest = -1, -1, 0.0, float("-inf")
        trusts = []
        for number, pointer in enumerate(self._pointers):
            if pointer.guess is None:
                continue
            told, times = self._told[number], self._times[number]
            own_odds = log((told + 1) / (times - told + 1))
            trust = own_odds + 3 * self._passages[number].similarity
            trusts.append((trust, pointer.guess))
            if trust > highest:
                best, token, odds, highest = number, pointer.guess, own_odds, trust
        if best < 0:
            return None
        agree = sum(_weight(trust) for trust, other in trusts if other == token) - _weight(highest)
        differ = sum(_weight(trust) for trust, other in trusts if other != token)
        evidence = (1.0, self._passages[best].similarity, odds, self._times[best] / 20, agree, differ)
        return Guess(token, _KIND[token], evidence)


class _Pointer:
    """One passage in one cell: the note it would say next, and what has been said. `guess` is its next token."""

    __slots__ = ("_matched", "_next", "_notes", "_pitch", "_position", "_velocity", "guess")

    def __init__(self, notes: Sequence[NoteTokens]) -> None:
        self._notes = notes
        self._next = 0
        self._matched: NoteTokens | None = None  # the passage's note in whose place the last one stands
        self._position = self._pitch = self._velocity = -1
        self.guess: int | None = notes[0].position if notes else _END

    def advance(self, token: int) -> None:
        """Take the token that was said."""
        kind = _KIND[token]
        if kind == _POSITION:
            self._position, self._pitch, self._matched = token, -1, None
            note = self._skip()
            self.guess = note.pitch if note is not None and note.position == token else None
        elif kind == _PITCH:
            self._pitch = token
            self._match(token)
            self.guess = None if self._matched is None else self._matched.duration
        else:
            if kind == _VELOCITY:
                self._velocity, self._matched = token, None
            self.guess = self._after_note()

    def _after_note(self) -> int:
        matched, note = self._matched, self._skip()
        if matched is not None and matched.velocity != self._velocity:
            return matched.velocity
        if note is None:
            return _END
        return note.pitch if note.position == self._position else note.position

    def _match(self, pitch: int) -> None:
        """Find the passage's note that this one is, or stands in place of: the next of the same moment."""
        at, notes, position = self._next, self._notes, self._position
        first = at
        while at < len(notes) and notes[at].position == position and notes[at].pitch < pitch:
            at += 1
        if at < len(notes) and notes[at].position == position and notes[at].pitch == pitch:
            first = at
        if first < len(notes) and notes[first].position == position:
            self._matched, self._next = notes[first], first + 1
        else:
            self._matched = None

    def _skip(self) -> NoteTokens | None:
        """Pass over notes that can no longer come, and return the next: notes are said by position, then pitch."""
        notes, position, pitch = self._notes, self._position, self._pitch
        at = self._next
        while at < len(notes):
            note = notes[at]
            if note.position > position or (note.position == position and note.pitch > pitch):
                self._next = at
                return note
            at += 1
        self._next = at
        return None


def _weight(trust: float) -> float:
    return 1 / (1 + exp(2 - trust))
