"""Read one MIDI file as a grid score, or return the reason why not."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harmonixr_model.data.dedup import fingerprint
from harmonixr_model.errors import MidiError
from harmonixr_model.music.bulk_reader import read_score
from harmonixr_model.music.score import COMMON_TIME, Score
from harmonixr_model.notes.grid import quantize

MAX_BYTES = 8 << 20
MIN_NOTES, MAX_NOTES = 24, 60_000
MAX_QUARTERS = 8_000
# Below this, onsets are spread over the beat as if there were none (see `metre_strength`).
MIN_METRE_STRENGTH = 0.15
# Of n onsets without any beat, one set in twenty exceeds sqrt(3 / n) (Rayleigh's test; Mardia & Jupp 2000, 6.3.1).
RAYLEIGH = 3.0


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
    try:
        score = read_score(data)
    except MidiError as error:
        return Rejected("unreadable", str(error)[:200])
    if not 1 <= score.ticks_per_quarter <= 0x7FFF:
        return Rejected("no_beat", f"{score.ticks_per_quarter} ticks a quarter")
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
