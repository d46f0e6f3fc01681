"""A small algebra on scores: every operation returns a new Score and changes nothing else.

Knows nothing of files or models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature


def transpose(score: Score, semitones: int) -> Score:
    """Return `score` moved by `semitones`, drums excepted; notes that would leave 0-127 are left out."""

    def moved(note: Note) -> Note | None:
        pitch = note.pitch + semitones
        return note._replace(pitch=pitch) if 0 <= pitch <= 127 else None

    return map_notes(score, moved, tracks=[i for i, track in enumerate(score.tracks) if not track.is_drum])


def scale_velocity(score: Score, factor: float) -> Score:
    """Return `score` with velocities multiplied by `factor`, kept within 1-127."""
    return map_notes(score, lambda n: n._replace(velocity=min(127, max(1, round(n.velocity * factor)))))


def shift(score: Score, ticks: int) -> Score:
    """Return `score` with notes, tempos and metres `ticks` later (earlier if negative).

    What would fall before tick 0 is cut there: notes lose what lies before it, and the tempo and metre then in force
    begin at 0.
    """
    moved = map_notes(score, lambda n: _cut(n._replace(onset=n.onset + ticks), 0, None))
    tempos = tuple(t._replace(tick=t.tick + ticks) for t in score.tempos)
    signatures = tuple(s._replace(tick=s.tick + ticks) for s in score.time_signatures)
    return replace(moved, tempos=_tempos_from_zero(tempos), time_signatures=_signatures_from_zero(signatures))


def clip(score: Score, start: int, end: int) -> Score:
    """Return the stretch [start, end) as a score of its own that begins at tick 0.

    Notes that sound into or out of the stretch are cut at its borders; tempo and metre in force at `start` hold at 0.
    """
    inside = map_notes(score, lambda n: _cut(n, start, end))
    inside = replace(
        inside,
        tempos=tuple(t for t in score.tempos if t.tick < end),
        time_signatures=tuple(s for s in score.time_signatures if s.tick < end),
    )
    return shift(inside, -start)


def mask(score: Score, region: Region) -> Score:
    """Return `score` without the notes that a fill of `region` may delete."""
    return region.without(score)


def extract(score: Score, region: Region) -> Score:
    """Return `score` with only the notes that a fill of `region` may delete; tracks keep their numbers."""
    tracks = enumerate(score.tracks)
    return score.replace_notes({i: [n for n in track.notes if region.contains(i, n)] for i, track in tracks})


def combine(score: Score, other: Score) -> Score:
    """Return `score` with the notes of `other`, track by track; tracks that only `other` has are appended.

    Raises:
        ValueError: the two count time differently.
    """
    if score.ticks_per_quarter != other.ticks_per_quarter:
        raise ValueError(f"scores of {score.ticks_per_quarter} and {other.ticks_per_quarter} ticks a quarter")
    shared = min(len(score.tracks), len(other.tracks))
    merged = score.replace_notes({i: score.tracks[i].notes + other.tracks[i].notes for i in range(shared)})
    return replace(merged, tracks=merged.tracks + other.tracks[len(score.tracks) :])


def select_tracks(score: Score, tracks: Collection[int]) -> Score:
    """Return `score` with only these tracks, in their order."""
    return replace(score, tracks=tuple(track for i, track in enumerate(score.tracks) if i in tracks))


def map_notes(score: Score, function: Callable[[Note], Note | None], *, tracks: Collection[int] | None = None) -> Score:
    """Return `score` with `function` applied to each note of `tracks` (default: all); None leaves the note out."""
    chosen = range(len(score.tracks)) if tracks is None else tracks
    return score.replace_notes(
        {i: [new for note in score.tracks[i].notes if (new := function(note)) is not None] for i in chosen}
    )


def _cut(note: Note, start: int, end: int | None) -> Note | None:
    onset = max(note.onset, start)
    stop = note.end if end is None else min(note.end, end)
    return note._replace(onset=onset, duration=stop - onset) if onset < stop else None


def _tempos_from_zero(tempos: tuple[Tempo, ...]) -> tuple[Tempo, ...]:
    past = [tempo for tempo in tempos if tempo.tick <= 0]
    first = past[-1]._replace(tick=0) if past else Tempo(0, 500_000)
    return (first, *(tempo for tempo in tempos if tempo.tick > 0))


def _signatures_from_zero(signatures: tuple[TimeSignature, ...]) -> tuple[TimeSignature, ...]:
    past = [signature for signature in signatures if signature.tick <= 0]
    first = past[-1]._replace(tick=0) if past else TimeSignature(0, 4, 4)
    return (first, *(signature for signature in signatures if signature.tick > 0))
