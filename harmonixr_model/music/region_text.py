"""Parse a region from text: bars '9-12', beats '33-36', tracks by name or number.

Bars, beats and tracks count from 1, and both ends of a range are included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harmonixr_model.errors import RegionError
from harmonixr_model.music.region import Cell, NoteKey, Region, outside_song
from harmonixr_model.music.score import Score
from harmonixr_model.music.song import Song

_RANGE = re.compile(r"\s*(\d{1,7})\s*(?:[-–—]\s*(\d{1,7})\s*)?")


def parse_ranges(text: str, *, noun: str = "bars") -> tuple[tuple[int, int], ...]:
    """Return the ranges of '9-12', '5' or '1-4,9-12' as (first, last), counted from 1, both included.

    Raises:
        RegionError: the text is not of that form, counts from 0 or runs backwards.
    """
    ranges = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if not match:
            raise RegionError(f"cannot read {noun} {text!r}; write '9-12', '5' or '1-4,9-12', counted from 1")
        first, last = int(match[1]), int(match[2] or match[1])
        if first < 1:
            raise RegionError(f"{noun} are counted from 1, and {part.strip()!r} begins at {first}")
        if last < first:
            raise RegionError(f"{noun} {part.strip()!r} run backwards; write '{last}-{first}'")
        ranges.append((first, last))
    return tuple(ranges)


def beat_starts(score: Score) -> tuple[int, ...]:
    """Return the tick of every beat in the score's bars, then the end of the last bar."""
    starts: list[int] = []
    for bar in score.bars:
        beat = max(1, round(score.ticks_per_quarter * 4 / bar.denominator))
        starts += range(bar.start, bar.end, beat)
    return (*starts, score.bars[-1].end)


def read_region(
    song: Song,
    *,
    bars: str | None = None,
    beats: str | None = None,
    ticks: tuple[int, int] | None = None,
    continue_bars: int | None = None,
    tracks: Sequence[str | int] | str | None = None,
    pitch_low: int = 0,
    pitch_high: int = 127,
    locks: Iterable[tuple[str | int, int, int]] = (),
) -> Region:
    """Return the region given by exactly one of `bars`, `beats`, `ticks` or `continue_bars`, on `tracks`.

    `tracks` holds names or numbers from 1, as a list or as one text with commas; None means all. A lock is (track,
    onset tick, pitch).

    Raises:
        RegionError: the text cannot be parsed, the region lies outside the song, or a track or lock does not exist.
    """
    if sum(choice is not None for choice in (bars, beats, ticks, continue_bars)) != 1:
        raise RegionError("give exactly one of bars, beats, ticks or continue_bars")
    selected = find_tracks(song, tracks)
    if not song.score.tracks:
        raise RegionError("this song has no notes, so there is no track to fill; give a song with at least one note")
    if continue_bars is not None:
        cells = Region.continuation(song.score, continue_bars, selected).cells
    elif ticks is not None:
        cells = _tick_cells(song.score, ticks, selected)
    elif beats is not None:
        cells = _counted_cells(song.score, beats, "beats", beat_starts(song.score), selected)
    else:
        starts = [*(bar.start for bar in song.score.bars), song.score.bars[-1].end]
        cells = _counted_cells(song.score, bars or "", "bars", starts, selected)
    region = Region(cells, pitch_low, pitch_high)
    return Region(cells, pitch_low, pitch_high, frozenset(_lock(song, region, lock) for lock in locks))


def find_tracks(song: Song, tracks: Sequence[str | int] | str | None) -> list[int] | None:
    """Return the indices of the named tracks, each once; None (all tracks) stays None."""
    if tracks is None:
        return None
    if isinstance(tracks, str):
        # A name may contain a comma: a text that is a track's name is not split.
        whole = [track.name.casefold() for track in song.score.tracks]
        tracks = [tracks] if tracks.strip().casefold() in whole else tracks.split(",")
    if not tracks:
        raise RegionError("no track is named; give numbers from 1 or names, or leave tracks out for all")
    return sorted({song.find_track(track) for track in tracks})


def _tick_cells(score: Score, ticks: tuple[int, int], tracks: Sequence[int] | None) -> tuple[Cell, ...]:
    start, end = ticks
    last = score.bars[-1].end
    if start >= last:
        raise RegionError(
            f"tick {start} lies past the song, whose last bar ends at tick {last}; "
            "choose ticks before that, or continue the song to go past its end"
        )
    return Region.ticks(score, start, min(end, last), tracks).cells


def _counted_cells(
    score: Score, text: str, noun: str, starts: Sequence[int], tracks: Sequence[int] | None
) -> tuple[Cell, ...]:
    """Return the cells of ranges of bars or beats, whose `starts` end with the end of the last one."""
    cells: list[Cell] = []
    for first, last in parse_ranges(text, noun=noun):
        if last >= len(starts):
            raise outside_song(noun, first, last, len(starts) - 1)
        cells += Region.ticks(score, starts[first - 1], starts[last], tracks).cells
    return tuple(cells)


def _lock(song: Song, region: Region, lock: tuple[str | int, int, int]) -> NoteKey:
    track, onset, pitch = lock
    key = NoteKey(song.find_track(track), onset, pitch)
    notes = song.score.tracks[key.track].notes
    if not any((note.onset, note.pitch) == (onset, pitch) and region.contains(key.track, note) for note in notes):
        raise RegionError(
            f"there is no note of pitch {pitch} at tick {onset} of track {key.track + 1} inside the region to lock; "
            "lock notes of the region by their onset tick and pitch"
        )
    return key
