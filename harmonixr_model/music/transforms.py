"""A small algebra on scores: every operation returns a new Score and leaves its argument unchanged."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from harmonixr_model.music.score import Note, Score, timeline


def transpose(score: Score, semitones: int) -> Score:
    """Return `score` with every pitch moved by `semitones`, drums excepted; notes that leave 0-127 are omitted."""

    def moved(note: Note) -> Note | None:
        pitch = note.pitch + semitones
        return note._replace(pitch=pitch) if 0 <= pitch <= 127 else None

    return map_notes(score, moved, tracks=[i for i, track in enumerate(score.tracks) if not track.is_drum])


def shift(score: Score, ticks: int) -> Score:
    """Return `score` with notes, tempos and metres `ticks` later (earlier if negative).

    Notes are cut at tick 0. The tempo and the metre in force there begin there.
    """
    moved = map_notes(score, lambda note: _cut(note._replace(onset=note.onset + ticks), 0, None))
    tempos, metres = timeline(
        (tempo._replace(tick=tempo.tick + ticks) for tempo in score.tempos),
        (metre._replace(tick=metre.tick + ticks) for metre in score.time_signatures),
    )
    return replace(moved, tempos=tempos, time_signatures=metres)


def clip(score: Score, start: int, end: int) -> Score:
    """Return the stretch [start, end) as a score that begins at tick 0.

    Notes that cross the stretch's borders are cut there. The tempo and the metre in force at `start` begin at tick 0.
    """
    inside = replace(
        map_notes(score, lambda note: _cut(note, start, end)),
        tempos=tuple(tempo for tempo in score.tempos if tempo.tick < end),
        time_signatures=tuple(signature for signature in score.time_signatures if signature.tick < end),
    )
    return shift(inside, -start)


def map_notes(score: Score, function: Callable[[Note], Note | None], *, tracks: Collection[int] | None = None) -> Score:
    """Return `score` with `function` applied to each note of `tracks` (default: all); None omits the note."""
    selected = range(len(score.tracks)) if tracks is None else tracks
    return score.replace_notes(
        {i: [new for note in score.tracks[i].notes if (new := function(note)) is not None] for i in selected}
    )


def _cut(note: Note, start: int, end: int | None) -> Note | None:
    onset = max(note.onset, start)
    stop = note.end if end is None else min(note.end, end)
    return note._replace(onset=onset, duration=stop - onset) if onset < stop else None
