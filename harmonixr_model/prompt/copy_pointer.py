"""The copy pointer: follow similar passages through a fill and guess each next token.

This is the pointer of a pointer network (Vinyals et al. 2015; See et al. 2017), moved by rule instead of attention:
where the fill leaves a passage, the pointer finds its way back by position in the bar. The copy gate decides how much a
guess counts (`infill.copy_gate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import NamedTuple

from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import encode_notes
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.gap import Gap
from harmonixr_model.prompt.similar_passages import Passage, passage_notes

# The most passages that a copy pointer follows (docs/decisions/0008).
MAX_COPY_SOURCES = 4
# In the past accuracy of a source, each token counts this much less than the next.
_FADING = 0.95
KINDS = ("position", "pitch", "duration", "velocity", "end")
EVIDENCE = ("constant", "similarity", "past accuracy", "past count", "agreement", "disagreement")

_END = VOCAB.id("END")
_POSITION, _PITCH, _DURATION, _VELOCITY, _OTHER = range(5)
# The kind of each token, for quick lookup; END and all others have the last.
_KIND = bytes(
    next((k for k, b in enumerate((VOCAB.position, VOCAB.pitch, VOCAB.duration, VOCAB.velocity)) if t in b), _OTHER)
    for t in range(VOCAB.size)
)


class NoteTokens(NamedTuple):
    """The tokens of one note."""

    position: int
    pitch: int
    duration: int
    velocity: int


@dataclass(frozen=True, slots=True)
class CopySource:
    """A passage moved into the gap: its notes cell by cell in fill order, and the similarity of its surroundings."""

    similarity: float
    cells: tuple[tuple[NoteTokens, ...], ...]


@dataclass(frozen=True, slots=True)
class Guess:
    """The next token if the fill continues as a passage does."""

    token: int
    kind: int  # index in KINDS
    evidence: tuple[float, ...]  # one number for each of EVIDENCE


def copy_sources(gap: Gap, passages: Sequence[Passage]) -> tuple[CopySource, ...]:
    """Return the sources of a copy pointer."""
    return tuple(
        CopySource(
            passage.similarity,
            tuple(
                note_tokens(passage_notes(gap.context, cell, bars=gap.song_bars, offset=passage.offset), bar.start)
                for cell, bar in zip(gap.cells, gap.cell_bars, strict=True)
            ),
        )
        for passage in passages
    )


def note_tokens(notes: Iterable[Note], bar_start: int) -> tuple[NoteTokens, ...]:
    """Return the tokens of a cell's notes, each with all four: a note that is encoded alone has them."""
    ordered = sorted(notes, key=lambda note: (note.onset, note.pitch))
    return tuple(NoteTokens(*encode_notes([note], bar_start)) for note in ordered)


class CopyPointer:
    """The copy pointer of one fill. Call `open_cell` for each cell and `advance` for each token sampled in it."""

    def __init__(self, sources: Sequence[CopySource]) -> None:
        self._sources = sources
        self._hits = [0.0] * len(sources)  # right guesses of each source, faded
        self._count = [0.0] * len(sources)  # all guesses of each source, faded
        self._pointers: list[_SourcePointer] = []

    def open_cell(self, number: int) -> None:
        """Begin the cell with this number in fill order."""
        self._pointers = [_SourcePointer(source.cells[number]) for source in self._sources]

    def advance(self, token: int) -> None:
        """Take the token that was emitted."""
        for number, pointer in enumerate(self._pointers):
            if pointer.guess is not None:
                self._hits[number] = self._hits[number] * _FADING + (pointer.guess == token)
                self._count[number] = self._count[number] * _FADING + 1
            pointer.advance(token)

    def guess(self) -> Guess | None:
        """Return the guess of the most trusted source, None where no source has one."""
        trusts = [
            (self._odds(number) + 3 * self._sources[number].similarity, number)
            for number, pointer in enumerate(self._pointers)
            if pointer.guess is not None
        ]
        if not trusts:
            return None
        highest, best = max(trusts, key=lambda item: item[0])
        token = self._pointers[best].guess
        assert token is not None
        agree = sum(_weight(trust) for trust, n in trusts if self._pointers[n].guess == token) - _weight(highest)
        differ = sum(_weight(trust) for trust, n in trusts if self._pointers[n].guess != token)
        evidence = (1.0, self._sources[best].similarity, self._odds(best), self._count[best] / 20, agree, differ)
        return Guess(token, _KIND[token], evidence)

    def _odds(self, number: int) -> float:
        """Return the log odds that a source guesses right."""
        hits, count = self._hits[number], self._count[number]
        return log((hits + 1) / (count - hits + 1))


class _SourcePointer:
    """The position of one source in one cell; `guess` is its next token."""

    __slots__ = ("_matched", "_next", "_notes", "_pitch", "_position", "_velocity", "guess")

    def __init__(self, notes: Sequence[NoteTokens]) -> None:
        self._notes = notes
        self._next = 0
        self._matched: NoteTokens | None = None  # the source's note that the last emitted note replaces
        self._position = self._pitch = self._velocity = -1
        self.guess: int | None = notes[0].position if notes else _END

    def advance(self, token: int) -> None:
        """Take the token that was emitted."""
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
        """Find the source's note with this pitch at this position, else the next one there, which it replaces."""
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
        """Return the next note that can still come, by position, then pitch; skip the others."""
        for at in range(self._next, len(self._notes)):
            note = self._notes[at]
            if (note.position, note.pitch) > (self._position, self._pitch):
                self._next = at
                return note
        self._next = len(self._notes)
        return None


def _weight(trust: float) -> float:
    return 1 / (1 + exp(2 - trust))
