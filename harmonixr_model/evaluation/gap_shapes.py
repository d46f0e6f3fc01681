"""The shapes of gaps: each samples the cells that an evaluation item hides in a piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harmonixr_model.data.phrases import phrases
from harmonixr_model.music.region import NoteKey
from harmonixr_model.music.score import Bar
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell, NoteField
from harmonixr_model.notes.field_tokens import NOTE_FIELDS

_BEAT = 24


@dataclass(frozen=True, slots=True)
class Gap:
    """The hidden cells, and the notes in them that stay visible.

    Attributes:
        cells: the hidden cells; empty if the piece has no gap of this shape.
        locks: notes in the cells that stay visible.
        has_future: whether the prompt shows the music after the cells.
        has_rest: whether the prompt shows the rest of the cells' tracks.
        field: the only hidden field of the notes; None hides whole notes.
    """

    cells: tuple[GridCell, ...]
    locks: frozenset[NoteKey] = frozenset()
    has_future: bool = True
    has_rest: bool = True
    field: NoteField | None = None


Shape = Callable[[EncodedScore, np.random.Generator], Gap]


def _some_bars(full: EncodedScore, rng: np.random.Generator, count: int) -> Sequence[Bar]:
    """Sample consecutive bars, without the first bar of the piece, which has no context before it.

    Returns no bars if the piece is too short.
    """
    last = len(full.score.bars) - count
    if last < 1:
        return ()
    first = int(rng.integers(1, last + 1))
    return full.score.bars[first : first + count]


def _some_track(full: EncodedScore, rng: np.random.Generator, bars: Sequence[Bar]) -> list[int]:
    """Sample one of the tracks with notes in these bars; returns no track if all are silent."""
    playing = [t for t in range(len(full.tracks)) if bars and full.notes(t, bars[0].start, bars[-1].end)]
    return [int(rng.choice(playing))] if playing else []


def _cells(tracks: Sequence[int], bars: Sequence[Bar]) -> tuple[GridCell, ...]:
    return tuple(GridCell(track, bar.start, bar.end) for bar in bars for track in tracks)


def _track_cells(full: EncodedScore, rng: np.random.Generator, count: int) -> tuple[GridCell, ...]:
    bars = _some_bars(full, rng, count)
    return _cells(_some_track(full, rng, bars), bars)


def _all_cells(full: EncodedScore, rng: np.random.Generator, count: int) -> tuple[GridCell, ...]:
    return _cells(range(len(full.tracks)), _some_bars(full, rng, count))


def _one_track(count: int, field: NoteField | None = None) -> Shape:
    return lambda full, rng: Gap(_track_cells(full, rng, count), field=field)


def _all_tracks(count: int) -> Shape:
    return lambda full, rng: Gap(_all_cells(full, rng, count))


def _part_of_a_bar(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Hide two beats of one track."""
    bars = _some_bars(full, rng, 1)
    if not bars or bars[0].end - bars[0].start < 3 * _BEAT:
        return Gap(())
    start = bars[0].start + _BEAT * int(rng.integers(0, (bars[0].end - bars[0].start) // _BEAT - 1))
    return Gap(tuple(GridCell(track, start, start + 2 * _BEAT) for track in _some_track(full, rng, bars)))


def _pitch_band(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Hide the notes of one track from one of its pitches upwards, or downwards, in two bars."""
    cells = _track_cells(full, rng, 2)
    if not cells:
        return Gap(())
    pitch = int(rng.choice([note.pitch for cell in cells for note in full.hidden(cell)]))
    low, high = (pitch, 127) if rng.random() < 0.5 else (0, pitch)
    return Gap(tuple(replace(cell, low=low, high=high) for cell in cells))


def _half_locked(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Hide each note of one track in two bars with a probability of one half."""
    cells = _track_cells(full, rng, 2)
    keys = [NoteKey(cell.track, note.onset, note.pitch) for cell in cells for note in full.hidden(cell)]
    return Gap(cells, frozenset(key for key in keys if rng.random() < 0.5))


def _whole_track(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Hide eight bars of a track that the prompt shows nowhere else; the other tracks stay visible."""
    return Gap(_track_cells(full, rng, 8), has_rest=False) if len(full.tracks) > 1 else Gap(())


def _scattered(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Hide each cell of all tracks in four bars with a probability of 0.4."""
    return Gap(tuple(cell for cell in _all_cells(full, rng, 4) if rng.random() < 0.4))


def _continuation(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Hide two bars of all tracks and everything after them."""
    return Gap(_all_cells(full, rng, 2), has_future=False)


def _phrase(full: EncodedScore, rng: np.random.Generator) -> Gap:
    """Hide a phrase of all tracks that the piece's self-similarity shows, but not the first one."""
    found = [phrase for phrase in phrases(full, full.score.bars) if phrase[0] > 0]
    if not found:
        return Gap(())
    first, count = found[int(rng.integers(len(found)))]
    return Gap(_cells(range(len(full.tracks)), full.score.bars[first : first + count]))


SHAPES: dict[str, Shape] = {
    "track-1": _one_track(1),
    "track-2": _one_track(2),
    "track-4": _one_track(4),
    "track-8": _one_track(8),
    "all-1": _all_tracks(1),
    "all-2": _all_tracks(2),
    "all-4": _all_tracks(4),
    "sub-bar": _part_of_a_bar,
    "band": _pitch_band,
    "half-locked": _half_locked,
    "continuation": _continuation,
    "whole-track": _whole_track,
    "scattered": _scattered,
    "phrase": _phrase,
    **{f"{field}-only": _one_track(2, field) for field in NOTE_FIELDS},
}
