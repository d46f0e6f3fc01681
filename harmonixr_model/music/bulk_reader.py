"""Read the notes of many MIDI files quickly, with symusic; `Song.parse` reads a file that will be edited."""

from __future__ import annotations

from typing import Any

import numpy as np

from harmonixr_model.errors import MidiError
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature, Track, timeline
from harmonixr_model.music.song import DRUM_CHANNEL, Song


def read_score(data: bytes) -> Score:
    """Return the score of a MIDI file without the tracks that have no notes; a truncated file is read to its end.

    `ticks_per_quarter` is the file's division word and can be out of range.

    Raises:
        MidiError: the file cannot be read, or is truncated before its first note.
    """
    # symusic reads past the end of a truncated file and may crash the process.
    if not is_whole(data):
        score = Song.parse(data).score
        if not score.tracks:
            raise MidiError("it is cut off before its first note")
        return score
    import symusic

    try:
        parsed = symusic.Score.from_midi(data)
    except Exception as error:  # symusic raises RuntimeError, MemoryError and others for damaged files
        raise MidiError(str(error)) from None
    tempos = (Tempo(t.time, t.mspq) for t in parsed.tempos if t.time >= 0 and t.mspq > 0)
    metres = (TimeSignature(m.time, m.numerator, m.denominator) for m in parsed.time_signatures if m.time >= 0)
    tracks = tuple(_track(track) for track in parsed.tracks if len(track.notes))
    changes = timeline(tempos, (m for m in metres if m.numerator > 0 and m.denominator > 0))
    return Score(parsed.ticks_per_quarter, tracks, *changes)


def is_whole(data: bytes) -> bool:
    """Return whether the data holds every chunk that the header announces, up to its end."""
    at = data.find(b"MThd", 0, 64)
    announced, found = int.from_bytes(data[at + 10 : at + 12], "big"), 0
    while at + 8 <= len(data):
        found += data[at : at + 4] == b"MTrk"
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "big")
    return at <= len(data) and found >= announced


def _track(track: Any) -> Track:
    columns = track.notes.numpy()
    notes_N4 = np.stack([columns[name] for name in ("time", "duration", "pitch", "velocity")], axis=1).astype(np.int64)
    # Damaged files hold notes that are out of range.
    onset, duration, pitch, velocity = notes_N4.T
    np.maximum(duration, 1, out=duration)
    np.minimum(velocity, 127, out=velocity)
    notes_N4 = notes_N4[(pitch >= 0) & (pitch < 128) & (velocity > 0) & (onset >= 0)]
    channel = DRUM_CHANNEL if track.is_drum else 0
    notes = (Note(*row) for row in notes_N4.tolist())
    return Track((), int(track.program), bool(track.is_drum), str(track.name), channel).with_notes(notes)
