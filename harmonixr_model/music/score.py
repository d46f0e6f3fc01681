"""Music as a value: notes on tracks under a tempo map and a metre. Knows nothing of files, tokens or models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

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

    @property
    def quarters_per_minute(self) -> float:
        """The tempo as musicians say it."""
        return 60e6 / self.us_per_quarter


class TimeSignature(NamedTuple):
    """From `tick` on, bars have `numerator` beats of a 1/`denominator` note."""

    tick: int
    numerator: int
    denominator: int


class Bar(NamedTuple):
    """One bar [start, end) in ticks, counted from 0."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks a bar for
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
    """A piece. Tracks are numbered from 0 here; only the edges (command line, HTTP, page) count from 1."""

    ticks_per_quarter: int
    tracks: tuple[Track, ...] = ()
    tempos: tuple[Tempo, ...] = field(default=(Tempo(0, 500_000),))
    time_signatures: tuple[TimeSignature, ...] = field(default=(TimeSignature(0, 4, 4),))

    @property
    def end(self) -> int:
        """Tick at which the last note stops (0 for a score without notes)."""
        return max((note.end for track in self.tracks for note in track.notes), default=0)

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The bars up to the end of the last note; a score without notes has one bar."""
        return self.bars_until(self.end)

    def bars_until(self, tick: int) -> tuple[Bar, ...]:
        """Return the bars that cover [0, tick), at least one; the last metre goes on past the end of the song."""
        return _bars(self.ticks_per_quarter, self.time_signatures, max(1, tick))

    def replace_notes(self, notes: dict[int, Iterable[Note]]) -> Score:
        """Return this score with the notes of the named tracks replaced."""
        tracks = tuple(t.with_notes(notes[i]) if i in notes else t for i, t in enumerate(self.tracks))
        return replace(self, tracks=tracks)

    def seconds(self, tick: int) -> float:
        """Return the time in seconds at which `tick` falls."""
        elapsed, here, pace = 0.0, 0, 500_000
        for tempo in self.tempos:
            if tempo.tick >= tick:
                break
            elapsed += (tempo.tick - here) * pace
            here, pace = tempo.tick, tempo.us_per_quarter
        return (elapsed + (tick - here) * pace) / (1e6 * self.ticks_per_quarter)


@lru_cache(maxsize=256)
def _bars(ticks_per_quarter: int, signatures: tuple[TimeSignature, ...], until: int) -> tuple[Bar, ...]:
    if not signatures or signatures[0].tick > 0:
        signatures = (TimeSignature(0, 4, 4), *signatures)
    bars: list[Bar] = []
    changes = [signature.tick for signature in signatures[1:]] + [until + ticks_per_quarter * MAX_BAR_QUARTERS]
    for (tick, numerator, denominator), change in zip(signatures, changes, strict=True):
        length = max(1, round(ticks_per_quarter * min(4 * numerator / denominator, MAX_BAR_QUARTERS)))
        while tick < min(change, until):
            # A change of metre inside a bar cuts that bar short, as notation programs do.
            end = min(tick + length, change)
            bars.append(Bar(len(bars), tick, end, numerator, denominator))
            tick = end
    return tuple(bars)
