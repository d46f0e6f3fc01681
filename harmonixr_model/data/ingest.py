"""Read one MIDI file as a grid score, or return the reason why not."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harmonixr_model.data.dedup import fingerprint
from harmonixr_model.errors import MidiError
from harmonixr_model.music.columns import is_whole
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature, Track
from harmonixr_model.music.song import Song
from harmonixr_model.notes.grid import quantize

MAX_BYTES = 8 << 20
MIN_NOTES, MAX_NOTES = 24, 60_000
MAX_QUARTERS = 8_000
# Below this, onsets are spread over the beat as if there were none (see `metre_strength`).
MIN_METRE_STRENGTH = 0.15
# Of n onsets without any beat, one set in twenty exceeds sqrt(3 / n) (Rayleigh's test; Mardia & Jupp 2000, 6.3.1).
RAYLEIGH = 3.0
COMMON_TIME = TimeSignature(0, 4, 4)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a file is left out: a reason for the counts, and details."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The music of a file on the token grid."""

    score: Score
    has_pseudo_bars: bool
    notes: int
    notes_hash: str
    fingerprint: tuple[int, ...]


def read_file(data: bytes, *, is_performance: bool = False) -> Parsed | Rejected:
    """Read one file. Never raises, whatever the contents of the file.

    A file gets 4/4 pseudo-bars where its metre is a placeholder (1/4 throughout), its onsets have no beat, or it is a
    performance recorded without a beat.
    """
    if len(data) > MAX_BYTES:
        return Rejected("too_large", f"{len(data)} bytes, the limit is {MAX_BYTES}")
    if data[:4] != b"MThd" and not (data[:4] == b"RIFF" and b"MThd" in data[:64]):
        return Rejected("not_midi", f"begins with {data[:4]!r}")
    score = _parse(data)
    if isinstance(score, Rejected):
        return score
    notes = sum(len(track.notes) for track in score.tracks)
    if notes < MIN_NOTES:
        return Rejected("too_short" if notes else "empty", f"{notes} notes, at least {MIN_NOTES} are needed")
    if notes > MAX_NOTES or score.end > MAX_QUARTERS * score.ticks_per_quarter:
        return Rejected("too_long", f"{notes} notes, {score.end // score.ticks_per_quarter} quarters")
    has_pseudo_bars = is_performance or not has_usable_metre(score)
    if has_pseudo_bars:
        score = replace(score, time_signatures=(COMMON_TIME,))
    grid = quantize(score)
    grid = replace(grid, tracks=tuple(track for track in grid.tracks if track.notes))
    return Parsed(grid, has_pseudo_bars, sum(len(t.notes) for t in grid.tracks), notes_hash(grid), fingerprint(grid))


def has_usable_metre(score: Score) -> bool:
    """Return whether the bars and beats of this score mean something."""
    metres = score.time_signatures
    if metres and all((m.numerator, m.denominator) == (1, 4) for m in metres):
        return False
    onsets = len(np.unique(_onsets(score)))
    return metre_strength(score) >= max(MIN_METRE_STRENGTH, math.sqrt(RAYLEIGH / max(onsets, 1)))


def metre_strength(score: Score) -> float:
    """Return how closely onsets cluster on sixteenths or triplet eighths, 0 (evenly spread) to 1 (always on them).

    This is the mean resultant length of circular statistics.
    """
    onsets = _onsets(score)
    if not len(onsets):
        return 0.0
    quarters = onsets / score.ticks_per_quarter
    return max(float(abs(np.exp(2j * np.pi * quarters * parts).mean())) for parts in (4, 3))


def _onsets(score: Score) -> npt.NDArray[np.float64]:
    return np.array([note.onset for track in score.tracks for note in track.notes], dtype=float)


def notes_hash(score: Score) -> str:
    """Return a hash of the notes alone, independent of names, tempos and the order of tracks."""
    rows = sorted(
        (note.onset, note.pitch, note.duration, track.program, track.is_drum)
        for track in score.tracks
        for note in track.notes
    )
    return hashlib.sha256(np.array(rows, dtype=np.int32).tobytes()).hexdigest()[:32]


def _parse_carefully(data: bytes) -> Score | Rejected:
    """Read by the lossless reader, which is slower and safe for any file."""
    try:
        score = Song.parse(data).score
    except MidiError as error:
        return Rejected("unreadable", str(error)[:200])
    if not any(track.notes for track in score.tracks):
        return Rejected("unreadable", "it is cut off before its first note")
    return replace(score, tracks=tuple(track for track in score.tracks if track.notes))


def _parse(data: bytes) -> Score | Rejected:
    import symusic

    # The bulk reader reads past the end of a truncated file and may crash the process.
    if not is_whole(data):
        return _parse_carefully(data)
    try:
        parsed = symusic.Score.from_midi(data)
    except Exception as error:  # the parser raises bare RuntimeErrors, MemoryErrors and others for damaged files
        return Rejected("unreadable", str(error)[:200])
    if parsed.ticks_per_quarter < 1 or parsed.ticks_per_quarter > 0x7FFF:
        return Rejected("no_beat", f"{parsed.ticks_per_quarter} ticks a quarter")
    return Score(
        ticks_per_quarter=parsed.ticks_per_quarter,
        tracks=tuple(_track(track) for track in parsed.tracks if len(track.notes)),
        tempos=_at_zero([Tempo(t.time, t.mspq) for t in parsed.tempos if t.mspq > 0], Tempo(0, 500_000)),
        time_signatures=_at_zero(
            [
                TimeSignature(m.time, m.numerator, m.denominator)
                for m in parsed.time_signatures
                if m.numerator > 0 and m.denominator > 0
            ],
            COMMON_TIME,
        ),
    )


def _at_zero(changes: list[Any], default: Any) -> tuple[Any, ...]:
    """Return the changes in order, the last of several at one tick, with `default` in force from 0."""
    latest = {0: default} | {change[0]: change for change in sorted(changes, key=lambda change: int(change[0]))}
    return tuple(latest[tick] for tick in sorted(latest) if tick >= 0)


def _track(track: Any) -> Track:
    columns = track.notes.numpy()
    onset, duration, pitch, velocity = (
        np.asarray(columns[name], dtype=np.int64) for name in ("time", "duration", "pitch", "velocity")
    )
    keep: npt.NDArray[np.bool_] = (pitch >= 0) & (pitch < 128) & (velocity > 0) & (onset >= 0)
    rows = np.stack([onset, np.maximum(duration, 1), pitch, np.minimum(velocity, 127)], axis=1)[keep]
    notes = (Note(*row) for row in rows.tolist())
    is_drum = bool(track.is_drum)
    return Track((), int(track.program), is_drum, str(track.name), 9 if is_drum else 0).with_notes(notes)
