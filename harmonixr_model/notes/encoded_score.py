"""A grid score as runs of tokens, one for each bar of each track, and the cells that a fill replaces."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import TokenError
from harmonixr_model.music.region import NoteKey
from harmonixr_model.music.score import Bar, Note, Score, Track
from harmonixr_model.notes.grid import GRID, bar_steps
from harmonixr_model.notes.vocabulary import (
    DENOMINATORS,
    DURATIONS,
    MAX_DURATION,
    VOCAB,
    duration_bin,
    velocity_bin,
    velocity_of,
)

_BAR, _UNTIL, _HOLD, _END = (VOCAB.id(name) for name in ("BAR", "UNTIL", "HOLD", "END"))
_SIXTEENTH = GRID // 4
_POSITION, _PITCH = VOCAB.position.start, VOCAB.pitch.start
# The token of each duration in steps, and of each MIDI velocity.
DURATION_TOKENS = tuple(VOCAB.duration.start + duration_bin(d) for d in range(MAX_DURATION + 1))
VELOCITY_TOKENS = tuple(VOCAB.velocity.start + velocity_bin(v) for v in range(128))


# What a single-field cell fills; all other fields of its notes stay. A rhythm is onsets and durations.
NoteField: TypeAlias = Literal["pitch", "rhythm", "velocity", "duration"]
Places: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class GridCell:
    """What one FILL replaces: onsets in [start, end) of one track, pitches in [low, high].

    Steps are absolute and within one bar. `controls` are token ids in the cell's header. A `SingleFieldCell` fills only
    the `field` of its `known` notes; here both are empty. The methods give the cell's tokens in prompt and fill.
    """

    track: int
    start: int
    end: int
    low: int = 0
    high: int = 127
    controls: tuple[int, ...] = ()
    field: NoteField | None = dataclass_field(default=None, init=False)
    known: tuple[Note, ...] = dataclass_field(default=(), init=False)

    def contains(self, note: Note) -> bool:
        """Return whether a note of this cell's track is in the cell."""
        return self.start <= note.onset < self.end and self.low <= note.pitch <= self.high

    @property
    def fills_velocity(self) -> bool:
        """Whether the fill sets the velocity of its notes."""
        return self.field in (None, "velocity")

    @property
    def header_tokens(self) -> tuple[int, ...]:
        """The tokens of the cell's header after FILL BARIDX TRACK."""
        return self.controls

    def prefix_tokens(self, bar_start: int) -> list[int]:
        """Return the tokens of the cell's known notes in the prompt."""
        return []

    def encode(self, notes: Iterable[Note], bar_start: int) -> tuple[list[int], list[bool]]:
        """Return the fill with these notes, END included, and which of its tokens are forced."""
        tokens = [*encode_notes(sorted(notes, key=lambda note: (note.onset, note.pitch)), bar_start), _END]
        return tokens, [False] * len(tokens)

    def decode(self, tokens: Sequence[int], bar_start: int) -> list[Note]:
        """Return the notes of a fill without its END; raises TokenError at a wrong token."""
        return decode_notes(tokens, bar_start)

    def max_length(self, notes: Sequence[Note]) -> int:
        """Return the most tokens that a fill with these notes takes, END included."""
        return len(encode_notes(notes, 0)) + 1


def split_at_bars(cell: GridCell, bars: Iterable[Bar]) -> list[GridCell]:
    """Return the parts of the cell between barlines, in order; parts outside `bars` are left out."""
    return [
        replace(cell, start=max(cell.start, bar.start), end=min(cell.end, bar.end))
        for bar in bars
        if bar.start < cell.end and cell.start < bar.end
    ]


def metre_tokens(bar: Bar) -> list[int]:
    """Return BAR TS, and UNTIL POS where a change of metre shortens the bar."""
    metre = (bar.numerator - 1) * len(DENOMINATORS) + DENOMINATORS.index(bar.denominator)
    tokens = [_BAR, VOCAB.time_signature.start + metre]
    if bar.end - bar.start != bar_steps(bar.numerator, bar.denominator):
        tokens += (_UNTIL, _POSITION + bar.end - bar.start)
    return tokens


def encode_notes(notes: Iterable[Note], bar_start: int) -> list[int]:
    """Return POS PITCH DUR VEL … of notes sorted by (onset, pitch); POS and VEL are emitted when they change."""
    tokens: list[int] = []
    position = velocity = -1
    shift = _POSITION - bar_start
    for onset, duration, pitch, loudness in notes:
        if onset != position:
            position = onset
            tokens.append(onset + shift)
        tokens.append(_PITCH + pitch)
        tokens.append(DURATION_TOKENS[duration if duration < MAX_DURATION else MAX_DURATION])
        if VELOCITY_TOKENS[loudness] != velocity:
            velocity = VELOCITY_TOKENS[loudness]
            tokens.append(velocity)
    return tokens


def decode_notes(tokens: Sequence[int], bar_start: int) -> list[Note]:
    """Return the notes of POS PITCH DUR VEL …, in absolute steps. Raises TokenError at the first wrong token."""
    notes: list[Note] = []
    position = velocity = pitch = -1
    expected = "POS"
    for index, token in enumerate(tokens):
        if token in VOCAB.position and expected in ("POS", "any"):
            position, expected = token - _POSITION, "PITCH"
        elif token in VOCAB.pitch and expected in ("PITCH", "any"):
            pitch, expected = token - _PITCH, "DUR"
        elif token in VOCAB.duration and expected == "DUR":
            duration = DURATIONS[token - VOCAB.duration.start]
            notes.append(Note(bar_start + position, duration, pitch, velocity))
            expected = "VEL" if velocity < 0 else "any"
        elif token in VOCAB.velocity and tokens[index - 1] in VOCAB.duration and expected in ("VEL", "any"):
            velocity, expected = velocity_of(token - VOCAB.velocity.start), "any"
            notes[-1] = notes[-1]._replace(velocity=velocity)
        else:
            wanted = "POS, PITCH or VEL" if expected == "any" else expected
            raise TokenError(f"token {index + 1} of these notes is {VOCAB.name(token)} where {wanted} belongs")
    if (notes and expected != "any") or (not notes and expected != "POS"):
        raise TokenError(f"the notes break off where {expected} belongs")
    return notes


def hold_tokens(held: Iterable[Note], start: int) -> list[int]:
    """Return HOLD PITCH DUR for each note held over `start`, with the duration that remains."""
    tokens: list[int] = []
    for note in held:
        remaining = min(note.end - start, MAX_DURATION)
        tokens += (_HOLD, _PITCH + note.pitch, DURATION_TOKENS[remaining])
    return tokens


class EncodedScore:
    """A grid score with a cache of the tokens of each bar of each track. Treat it as immutable.

    Build it once for each piece; `without` returns the context of a gap and shares the unchanged parts of the cache.
    """

    def __init__(self, score: Score) -> None:
        if score.ticks_per_quarter != GRID:
            raise TokenError(
                f"a grid score has {GRID} ticks a quarter, this one has {score.ticks_per_quarter}; quantize it first"
            )
        self.score = score
        self._runs: dict[tuple[int, int], list[int]] = {}
        self._places: dict[int, Places] = {}

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The score's tracks."""
        return self.score.tracks

    @property
    def end(self) -> int:
        """Step at which the last note stops (0 for a score without notes)."""
        return max((_end(track.notes) for track in self.tracks), default=0)

    def notes(self, track: int, start: int, end: int) -> tuple[Note, ...]:
        """Return the notes of a track with onset in [start, end)."""
        notes = self.tracks[track].notes
        return notes[bisect_left(notes, (start,)) : bisect_left(notes, (end,))]

    def held(self, track: int, step: int) -> list[Note]:
        """Return the notes of a track that began before `step` and still sound there, by pitch."""
        before = self.notes(track, step - MAX_DURATION, step)
        return sorted((n for n in before if n.end > step), key=lambda n: n.pitch)

    def run(self, track: int, bar: Bar) -> list[int]:
        """Return the tokens of a track's notes in a bar, empty for silence. Do not change the list."""
        key = (track, bar.start)
        if key not in self._runs:
            self._runs[key] = encode_notes(self.notes(track, bar.start, bar.end), bar.start)
        return self._runs[key]

    def places(self, track: int) -> Places:
        """Return each note's bar, and (sixteenth of the bar, pitch) as a number: int64 [N] each. Do not change them."""
        if track not in self._places:
            notes = np.array([(n.onset, n.pitch) for n in self.tracks[track].notes], dtype=np.int64).reshape(-1, 2)
            starts = np.array([bar.start for bar in self.score.bars_until(self.end)], dtype=np.int64)
            bar_N = np.searchsorted(starts, notes[:, 0], side="right") - 1
            key_N = (notes[:, 0] - starts[bar_N]) // _SIXTEENTH * 128 + notes[:, 1]
            self._places[track] = bar_N, key_N
        return self._places[track]

    def hidden(self, cell: GridCell, locks: Collection[NoteKey] = ()) -> tuple[Note, ...]:
        """Return the notes a fill of this cell replaces: those in it that are not locked."""
        return tuple(
            n
            for n in self.notes(cell.track, cell.start, cell.end)
            if cell.low <= n.pitch <= cell.high and NoteKey(cell.track, n.onset, n.pitch) not in locks
        )

    def without(self, cells: Iterable[GridCell], locks: Collection[NoteKey] = ()) -> EncodedScore:
        """Return the context: this score without the unlocked notes of the cells."""
        hidden: dict[int, set[Note]] = {}
        for cell in cells:
            hidden.setdefault(cell.track, set()).update(self.hidden(cell, locks))
        left = {t: [note for note in self.tracks[t].notes if note not in notes] for t, notes in hidden.items()}
        context = EncodedScore(self.score.replace_notes(left))
        context._places = {track: places for track, places in self._places.items() if track not in hidden}
        context._runs = {key: run for key, run in self._runs.items() if key[0] not in hidden}
        return context


def _end(notes: Sequence[Note]) -> int:
    """Return where the last sounding note stops; only notes near the last onset can be it."""
    if not notes:
        return 0
    near = bisect_left(notes, (notes[-1].onset - MAX_DURATION,))
    return max(note.end for note in notes[near:])
