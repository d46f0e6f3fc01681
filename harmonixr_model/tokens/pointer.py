"""Follow remembered passages while a fill is said: what each would say next, and how well it has told so far.

A pointer network's pointer (Vinyals et al. 2015; See et al. 2017), kept by rule: where the fill leaves the passage it
finds the way back by position in the bar. How far to trust a guess is a model's matter (`infill.pointer`). Knows no
torch and draws nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from harmonixr_model.music.score import Bar, Note
from harmonixr_model.tokens.encoded import EncodedScore, GridCell, encode_notes
from harmonixr_model.tokens.memory import Passage, passage_notes
from harmonixr_model.tokens.vocab import VOCAB

# So many passages are followed; more of them guessed no better (docs/decisions/0006).
FOLLOWED = 4
# Each token counts this much less, in how well a passage has told, than the one after it.
_FADING = 0.95
KINDS = ("position", "pitch", "duration", "velocity", "end")
EVIDENCE = ("always", "similarity", "told well", "told often", "others agree", "others differ")

_POSITION, _PITCH, _DURATION, _VELOCITY = VOCAB.position, VOCAB.pitch, VOCAB.duration, VOCAB.velocity
_END = VOCAB.id("END")


@dataclass(frozen=True, slots=True)
class PointedNote:
    """A note as the tokens that say it."""

    position: int
    pitch: int
    duration: int
    velocity: int


@dataclass(frozen=True, slots=True)
class Recalled:
    """A passage moved into the gap: its notes cell by cell, in fill order, and how alike its surroundings are."""

    similarity: float
    cells: tuple[tuple[PointedNote, ...], ...]


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


def recalled(
    context: EncodedScore, cells: Sequence[GridCell], passages: Sequence[Passage], *, bars: Sequence[Bar]
) -> tuple[Recalled, ...]:
    """Return passages as pointers follow them. `cells` are in fill order, `bars` those of the song."""
    starts = [next(bar.start for bar in reversed(bars) if bar.start <= cell.start) for cell in cells]
    return tuple(
        Recalled(
            passage.similarity,
            tuple(
                pointed_notes(passage_notes(context, cell, bars=bars, offset=passage.offset), start)
                for cell, start in zip(cells, starts, strict=True)
            ),
        )
        for passage in passages
    )


def pointed_notes(notes: Sequence[Note], bar_start: int) -> tuple[PointedNote, ...]:
    """Return the notes of a cell as tokens, each whole."""
    found: list[PointedNote] = []
    for note in sorted(notes, key=lambda note: (note.onset, note.pitch)):
        # Said alone a note tells all of its tokens.
        found.append(PointedNote(*encode_notes([note], bar_start)))
    return tuple(found)


class Pointers:
    """Where the passages stand in one fill. Call `open_cell` for each cell, `advance` for each token drawn in it."""

    def __init__(self, passages: Sequence[Recalled]) -> None:
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
            guess = pointer.guess()
            if guess is not None:
                self._told[number] = self._told[number] * _FADING + (guess == token)
                self._times[number] = self._times[number] * _FADING + 1
            pointer.advance(token)

    def guess(self) -> Guess | None:
        """Return what the most trustworthy passage says next; None where no passage says anything."""
        said = [
            (self._trust(number), number, token)
            for number, pointer in enumerate(self._pointers)
            if (token := pointer.guess()) is not None
        ]
        if not said:
            return None
        _, best, token = max(said, key=lambda one: (one[0], -one[1]))
        agree = sum(_weight(trust) for trust, number, other in said if number != best and other == token)
        differ = sum(_weight(trust) for trust, _, other in said if other != token)
        evidence = (1.0, self._passages[best].similarity, self._log_odds(best), self._times[best] / 20, agree, differ)
        return Guess(token, _kind(token), evidence)

    def _trust(self, number: int) -> float:
        return self._log_odds(number) + 3 * self._passages[number].similarity

    def _log_odds(self, number: int) -> float:
        told, times = self._told[number], self._times[number]
        return log((told + 1) / (times - told + 1))


class _Pointer:
    """One passage in one cell: the note it would say next, and what has been said."""

    __slots__ = ("_matched", "_next", "_notes", "_pitch", "_position", "_state", "_velocity")

    def __init__(self, notes: Sequence[PointedNote]) -> None:
        self._notes = notes
        self._next = 0
        self._matched: PointedNote | None = None  # the passage's note in whose place the last one stands
        self._position = self._pitch = self._velocity = -1
        self._state = "between notes"

    def guess(self) -> int | None:
        matched = self._matched
        if self._state == "duration":
            return None if matched is None else matched.duration
        note = self._notes[self._next] if self._next < len(self._notes) else None
        if self._state == "pitch":
            return note.pitch if note is not None and note.position == self._position else None
        if matched is not None and matched.velocity != self._velocity:
            return matched.velocity
        if note is None:
            return _END
        return note.pitch if note.position == self._position else note.position

    def advance(self, token: int) -> None:
        if token in _POSITION:
            self._position, self._pitch, self._matched, self._state = token, -1, None, "pitch"
        elif token in _PITCH:
            self._pitch, self._state = token, "duration"
            self._match(token)
        elif token in _DURATION:
            self._state = "between notes"
        elif token in _VELOCITY:
            self._velocity, self._matched = token, None
        self._skip()

    def _match(self, pitch: int) -> None:
        """Find the passage's note that this one is, or stands in place of: the next of the same moment."""
        here = [i for i in range(self._next, len(self._notes)) if self._notes[i].position == self._position]
        same = [i for i in here if self._notes[i].pitch == pitch]
        self._matched = self._notes[(same or here)[0]] if here else None
        if here:
            self._next = (same or here)[0] + 1

    def _skip(self) -> None:
        """Pass over notes that can no longer come: notes are said by position, then pitch."""
        while self._next < len(self._notes):
            note = self._notes[self._next]
            if (note.position, note.pitch) > (self._position, self._pitch):
                return
            self._next += 1


def _weight(trust: float) -> float:
    return 1 / (1 + exp(2 - trust))


def _kind(token: int) -> int:
    for kind, block in enumerate((_POSITION, _PITCH, _DURATION, _VELOCITY)):
        if token in block:
            return kind
    return KINDS.index("end")
