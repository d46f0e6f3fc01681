"""The part of a score that a fill may change: cells of tracks × time, a pitch band, locked notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harmonixr_model.errors import RegionError
from harmonixr_model.music.score import Note, Score


class Cell(NamedTuple):
    """The ticks [start, end) of one track (counted from 0)."""

    track: int
    start: int
    end: int


class NoteKey(NamedTuple):
    """The key of a note in a score: notes of one track with the same onset and pitch share it."""

    track: int
    onset: int
    pitch: int


@dataclass(frozen=True, slots=True)
class Region:
    """The notes that a fill may delete: onset in a cell, pitch in the band, not locked.

    Cells are sorted by (track, start), merged where they touch, and never empty.
    """

    cells: tuple[Cell, ...] = ()
    pitch_low: int = 0
    pitch_high: int = 127
    locks: frozenset[NoteKey] = field(default=frozenset())

    def __post_init__(self) -> None:
        if not 0 <= self.pitch_low <= self.pitch_high <= 127:
            raise RegionError(
                f"the pitch band {self.pitch_low}-{self.pitch_high} is empty or out of range; "
                "give low <= high within 0-127"
            )
        object.__setattr__(self, "cells", _merged(self.cells))

    @classmethod
    def bars(cls, score: Score, first: int, last: int, tracks: Sequence[int] | None = None) -> Region:
        """Return the region of bars `first` to `last`, counted from 0, both included, on `tracks` (default: all)."""
        bars = score.bars
        if not 0 <= first <= last < len(bars):
            raise outside_song("bars", first + 1, last + 1, len(bars))
        return cls.ticks(score, bars[first].start, bars[last].end, tracks)

    @classmethod
    def ticks(cls, score: Score, start: int, end: int, tracks: Sequence[int] | None = None) -> Region:
        """Return the region [start, end) in ticks on `tracks` (default: all)."""
        if not 0 <= start < end:
            raise RegionError(f"the region of ticks {start}-{end} is empty; give 0 <= start < end")
        selected = range(len(score.tracks)) if tracks is None else tracks
        region = cls(tuple(Cell(track, start, end) for track in selected))
        region.check(score)
        return region

    @classmethod
    def continuation(cls, score: Score, bars: int, tracks: Sequence[int] | None = None) -> Region:
        """Return the `bars` bars after the song's last bar, on `tracks` (default: all)."""
        if bars < 1:
            raise RegionError(f"cannot continue by {bars} bars; give at least 1")
        start = score.bars[-1].end if score.end else 0
        ahead = [b for b in score.bars_until(start + bars * 12 * score.ticks_per_quarter + 1) if b.start >= start]
        return cls.ticks(score, start, ahead[bars - 1].end, tracks)

    @property
    def is_empty(self) -> bool:
        """Whether nothing may change."""
        return not self.cells

    @property
    def start(self) -> int:
        """First tick of the region (0 when empty)."""
        return min((c.start for c in self.cells), default=0)

    @property
    def end(self) -> int:
        """Tick after the region (0 when empty)."""
        return max((c.end for c in self.cells), default=0)

    @property
    def tracks(self) -> tuple[int, ...]:
        """The tracks that have a cell, in order."""
        return tuple(sorted({c.track for c in self.cells}))

    def contains(self, track: int, note: Note) -> bool:
        """Return whether a fill may delete this note."""
        if not self.pitch_low <= note.pitch <= self.pitch_high:
            return False
        onset = note.onset
        for cell_track, start, end in self.cells:
            if start <= onset < end and cell_track == track:
                return not self.locks or NoteKey(track, onset, note.pitch) not in self.locks
        return False

    def check(self, score: Score) -> None:
        """Raise RegionError where a cell names a track that the score does not have."""
        for cell in self.cells:
            if not 0 <= cell.track < len(score.tracks):
                raise RegionError(f"track {cell.track + 1} does not exist; this song has {score.track_list}")

    def without(self, score: Score) -> Score:
        """Return the context: the score without the notes that a fill of this region may delete.

        Tracks that the score does not have yet are ignored.
        """
        tracks = [i for i in self.tracks if i < len(score.tracks)]
        return score.replace_notes({i: [n for n in score.tracks[i].notes if not self.contains(i, n)] for i in tracks})


def outside_song(noun: str, first: int, last: int, count: int) -> RegionError:
    """Return the error for bars or beats `first` to `last`, counted from 1, of a song that has `count`."""
    return RegionError(
        f"{noun} {first}-{last} lie outside the song, which has {count} {noun}; "
        f"choose {noun} within 1-{count}, or continue the song to go past its end"
    )


def _merged(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    merged: list[Cell] = []
    for cell in sorted(c for c in cells if c.start < c.end):
        if merged and merged[-1].track == cell.track and cell.start <= merged[-1].end:
            merged[-1] = Cell(cell.track, merged[-1].start, max(merged[-1].end, cell.end))
        else:
            merged.append(cell)
    return tuple(merged)
