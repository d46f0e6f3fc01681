"""The notes of a MIDI file as columns of numbers: a fast reader, by symusic, for files that are not edited."""

# N notes, of all tracks

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import MidiError
from harmonixr_model.music.score import COMMON_TIME, DEFAULT_TEMPO, Score, Tempo, TimeSignature, from_tick_zero
from harmonixr_model.music.song import Song

Column = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """A score with its notes as columns. Tracks without notes are omitted; `sounds` has (program, is_drum) of each."""

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
    # symusic reads past the end of a truncated file and may crash the process.
    if not is_whole(data):
        return columns_of(Song.parse(data).score)
    import symusic

    try:
        parsed = symusic.Score.from_midi(data)
    except Exception as error:  # symusic raises RuntimeError, MemoryError and others for damaged files
        raise MidiError(
            f"this MIDI file cannot be read ({str(error)[:200]}); export it again from another program"
        ) from None
    if not 1 <= parsed.ticks_per_quarter <= 0x7FFF:
        raise MidiError(f"a quarter of {parsed.ticks_per_quarter} ticks defines no beat; export the file with a metre")
    tracks = [track for track in parsed.tracks if len(track.notes)]
    columns = [track.notes.numpy() for track in tracks]
    onset_N, duration_N, pitch_N, velocity_N = (
        _joined(columns, name) for name in ("time", "duration", "pitch", "velocity")
    )
    track_N = np.repeat(np.arange(len(tracks)), [len(track.notes) for track in tracks])
    # Damaged files hold notes that are out of range.
    valid_N = (pitch_N >= 0) & (pitch_N < 128) & (velocity_N > 0) & (onset_N >= 0)
    return Columns(
        ticks_per_quarter=parsed.ticks_per_quarter,
        sounds=tuple((int(track.program), bool(track.is_drum)) for track in tracks),
        track_N=track_N[valid_N],
        onset_N=onset_N[valid_N],
        duration_N=np.maximum(duration_N[valid_N], 1),
        pitch_N=pitch_N[valid_N],
        velocity_N=np.minimum(velocity_N[valid_N], 127),
        tempos=from_tick_zero(
            (Tempo(t.time, t.mspq) for t in parsed.tempos if t.time >= 0 and t.mspq > 0), DEFAULT_TEMPO
        ),
        time_signatures=from_tick_zero(
            (
                TimeSignature(m.time, m.numerator, m.denominator)
                for m in parsed.time_signatures
                if m.time >= 0 and m.numerator > 0 and m.denominator > 0
            ),
            COMMON_TIME,
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


def is_whole(data: bytes) -> bool:
    """Return whether the data holds every chunk that the header announces, up to its end."""
    at = data.find(b"MThd", 0, 64)
    announced, found = int.from_bytes(data[at + 10 : at + 12], "big"), 0
    while at + 8 <= len(data):
        found += data[at : at + 4] == b"MTrk"
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "big")
    return at <= len(data) and found >= announced
