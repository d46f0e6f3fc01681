"""The notes of a file as columns of numbers, for reading many files fast. Knows nothing of grids or tokens.

What cannot be edited needs no Song: here a file is read by symusic, and its bytes are forgotten.
"""

# N notes, of all tracks

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import MidiError
from harmonixr_model.music.score import Score, Tempo, TimeSignature
from harmonixr_model.music.song import Song

Column = npt.NDArray[np.int64]
_START_TEMPO, _COMMON_TIME = Tempo(0, 500_000), TimeSignature(0, 4, 4)


@dataclass(frozen=True, slots=True)
class Columns:
    """A score whose notes are columns. Tracks without notes are left out; `sounds` has (program, is_drum) of each."""

    ticks_per_quarter: int
    sounds: tuple[tuple[int, bool], ...]
    track_N: Column
    onset_N: Column
    duration_N: Column
    pitch_N: Column
    velocity_N: Column
    tempos: tuple[Tempo, ...]
    time_signatures: tuple[TimeSignature, ...]


def read_columns(data: bytes) -> Columns:
    """Return the notes of a MIDI file; raises MidiError where it cannot be read."""
    # The bulk reader reads past the end of what is cut off, and may take the process with it.
    if not is_whole(data):
        return columns_of(Song.parse(data).score)
    import symusic

    try:
        parsed = symusic.Score.from_midi(data)
    except Exception as error:  # the parser raises bare RuntimeErrors, MemoryErrors and others for damaged files
        raise MidiError(
            f"this MIDI file cannot be read ({str(error)[:200]}); write it anew with another program"
        ) from None
    if not 1 <= parsed.ticks_per_quarter <= 0x7FFF:
        raise MidiError(f"a quarter of {parsed.ticks_per_quarter} ticks says no beat; write the file with a metre")
    tracks = [track for track in parsed.tracks if len(track.notes)]
    columns = [track.notes.numpy() for track in tracks]
    onset_N, duration_N, pitch_N, velocity_N = (
        _joined(columns, name) for name in ("time", "duration", "pitch", "velocity")
    )
    track_N = np.repeat(np.arange(len(tracks)), [len(track.notes) for track in tracks])
    # Damaged files give such notes.
    sane_N = (pitch_N >= 0) & (pitch_N < 128) & (velocity_N > 0) & (onset_N >= 0)
    return Columns(
        ticks_per_quarter=parsed.ticks_per_quarter,
        sounds=tuple((int(track.program), bool(track.is_drum)) for track in tracks),
        track_N=track_N[sane_N],
        onset_N=onset_N[sane_N],
        duration_N=np.maximum(duration_N[sane_N], 1),
        pitch_N=pitch_N[sane_N],
        velocity_N=np.minimum(velocity_N[sane_N], 127),
        tempos=_from_zero([Tempo(t.time, t.mspq) for t in parsed.tempos if t.mspq > 0], _START_TEMPO),
        time_signatures=_from_zero(
            [
                TimeSignature(m.time, m.numerator, m.denominator)
                for m in parsed.time_signatures
                if m.numerator > 0 and m.denominator > 0
            ],
            _COMMON_TIME,
        ),
    )


def columns_of(score: Score) -> Columns:
    """Return a score's notes as columns."""
    tracks = [track for track in score.tracks if track.notes]
    notes_N4 = np.array([note for track in tracks for note in track.notes], dtype=np.int64).reshape(-1, 4)
    onset_N, duration_N, pitch_N, velocity_N = notes_N4.T
    return Columns(
        ticks_per_quarter=score.ticks_per_quarter,
        sounds=tuple((track.program, track.is_drum) for track in tracks),
        track_N=np.repeat(np.arange(len(tracks)), [len(track.notes) for track in tracks]),
        onset_N=onset_N,
        duration_N=duration_N,
        pitch_N=pitch_N,
        velocity_N=velocity_N,
        tempos=score.tempos,
        time_signatures=score.time_signatures,
    )


def _joined(columns: Sequence[Any], name: str) -> Column:
    return np.concatenate([np.zeros(0, np.int64), *(column[name] for column in columns)]).astype(np.int64)


def _from_zero(changes: list[Any], default: Any) -> tuple[Any, ...]:
    """Return the changes in order, the last of several at one tick, with `default` in force from 0."""
    latest = {0: default} | {change[0]: change for change in sorted(changes, key=lambda change: int(change[0]))}
    return tuple(latest[tick] for tick in sorted(latest) if tick >= 0)


def is_whole(data: bytes) -> bool:
    """Say whether all chunks that the header announces are there and end within the data."""
    at = data.find(b"MThd", 0, 64)
    announced, found = int.from_bytes(data[at + 10 : at + 12], "big"), 0
    while at + 8 <= len(data):
        found += data[at : at + 4] == b"MTrk"
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "big")
    return at <= len(data) and found >= announced
