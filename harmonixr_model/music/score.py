"""Music as a value: notes on tracks, with a tempo map and metres."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, TypeVar

# A bar longer than this is counted as several: the token grid gives a bar at most 12 quarters of positions.
MAX_BAR_QUARTERS = 12


class Note(NamedTuple):
    """One note. Times in ticks of the score that holds it; natural order is (onset, duration, pitch, velocity)."""

    onset: int
    duration: int
    pitch: int
    velocity: int

    @property
    def end(self) -> int:
        """Tick at which the note stops sounding (exclusive)."""
        return self.onset + self.duration


class Tempo(NamedTuple):
    """From `tick` on, a quarter lasts `us_per_quarter` microseconds."""

    tick: int
    us_per_quarter: int


class TimeSignature(NamedTuple):
    """From `tick` on, bars have `numerator` beats of a 1/`denominator` note."""

    tick: int
    numerator: int
    denominator: int


# In force where a MIDI file sets none.
DEFAULT_TEMPO, COMMON_TIME = Tempo(0, 500_000), TimeSignature(0, 4, 4)
_Change = TypeVar("_Change", Tempo, TimeSignature)


class Bar(NamedTuple):
    """One bar [start, end) in ticks, counted from 0."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nothing calls
    start: int
    end: int
    numerator: int
    denominator: int


@dataclass(frozen=True, slots=True)
class Track:
    """The notes of one instrument on one channel, sorted by (onset, pitch)."""

    notes: tuple[Note, ...] = ()
    program: int = 0
    is_drum: bool = False
    name: str = ""
    channel: int = 0

    def with_notes(self, notes: Iterable[Note]) -> Track:
        """Return this track holding `notes` instead, sorted by (onset, pitch)."""
        return replace(self, notes=tuple(sorted(notes, key=lambda n: (n.onset, n.pitch, n.duration, n.velocity))))


@dataclass(frozen=True, slots=True)
class Score:
    """A piece. Tracks are numbered from 0; only the user interfaces (command line, HTTP, page) count from 1."""

    ticks_per_quarter: int
    tracks: tuple[Track, ...] = ()
    tempos: tuple[Tempo, ...] = (DEFAULT_TEMPO,)
    time_signatures: tuple[TimeSignature, ...] = (COMMON_TIME,)

    @property
    def end(self) -> int:
        """Tick at which the last note stops (0 for a score without notes)."""
        return max((note.end for track in self.tracks for note in track.notes), default=0)

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The bars up to the end of the last note; a score without notes has one bar."""
        return self.bars_until(self.end)

    def bars_until(self, tick: int) -> tuple[Bar, ...]:
        """Return the bars that cover [0, tick), at least one; the last metre continues past the end of the song."""
        return _bars(self.ticks_per_quarter, self.time_signatures, max(1, tick))

    @property
    def bar_count(self) -> int:
        """The number of bars, counted without making them: a damaged file may have millions."""
        return sum(len(found[0]) for found in _bar_starts(self.ticks_per_quarter, self.time_signatures, self.end))

    @property
    def track_list(self) -> str:
        """The tracks by number from 1 and name, for messages."""
        names = (f"{i} {track.name!r}" if track.name else str(i) for i, track in enumerate(self.tracks, 1))
        return ", ".join(names) or "no tracks with notes"

    def replace_notes(self, notes: Mapping[int, Iterable[Note]]) -> Score:
        """Return this score with the notes of the named tracks replaced."""
        tracks = tuple(t.with_notes(notes[i]) if i in notes else t for i, t in enumerate(self.tracks))
        return replace(self, tracks=tracks)

    def seconds(self, tick: int) -> float:
        """Return the time of `tick` in seconds."""
        elapsed, here, pace = 0.0, *DEFAULT_TEMPO
        for tempo in self.tempos:
            if tempo.tick >= tick:
                break
            elapsed += (tempo.tick - here) * pace
            here, pace = tempo.tick, tempo.us_per_quarter
        return (elapsed + (tick - here) * pace) / (1e6 * self.ticks_per_quarter)


def timeline(
    tempos: Iterable[Tempo], metres: Iterable[TimeSignature]
) -> tuple[tuple[Tempo, ...], tuple[TimeSignature, ...]]:
    """Return both by tick, the last of several at one tick; the ones in force at tick 0 begin there."""
    return _from_tick_zero(tempos, DEFAULT_TEMPO), _from_tick_zero(metres, COMMON_TIME)


def _from_tick_zero(changes: Iterable[_Change], default: _Change) -> tuple[_Change, ...]:
    latest = {0: default}
    for change in sorted(changes, key=lambda change: change.tick):
        tick = max(0, change.tick)
        latest[tick] = change._replace(tick=tick)
    return tuple(latest.values())


def bar_at(bars: Sequence[Bar], tick: int) -> Bar:
    """Return the bar that contains `tick`; past the last bar, the last one."""
    return bars[bisect_right(bars, tick, key=lambda bar: bar.start) - 1]


@lru_cache(maxsize=256)
def _bars(ticks_per_quarter: int, signatures: tuple[TimeSignature, ...], until: int) -> tuple[Bar, ...]:
    bars: list[Bar] = []
    for starts, change, (_, numerator, denominator) in _bar_starts(ticks_per_quarter, signatures, until):
        for start in starts:
            # A change of metre within a bar ends that bar, as in notation programs.
            bars.append(Bar(len(bars), start, min(start + starts.step, change), numerator, denominator))
    return tuple(bars)


def _bar_starts(
    ticks_per_quarter: int, signatures: tuple[TimeSignature, ...], until: int
) -> Iterator[tuple[range, int, TimeSignature]]:
    """Yield the starts of each metre's bars before `until`, the tick of the next metre, and the metre."""
    if not signatures or signatures[0].tick > 0:
        signatures = (COMMON_TIME, *signatures)
    changes = [signature.tick for signature in signatures[1:]] + [until + ticks_per_quarter * MAX_BAR_QUARTERS]
    for metre, change in zip(signatures, changes, strict=True):
        length = max(1, round(ticks_per_quarter * min(4 * metre.numerator / metre.denominator, MAX_BAR_QUARTERS)))
        yield range(metre.tick, min(change, until), length), change, metre
