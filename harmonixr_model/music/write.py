"""Write a Score as a new MIDI file; `splice` edits the file that a song came from."""

from __future__ import annotations

from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.music.smf import Chunk, smf_bytes


def write_midi(score: Score) -> bytes:
    """Return a format 1 file: a chunk of tempos and metres, then one for each track with its name and program.

    Tracks keep their channels. Velocities outside 1-127 are clamped, and a note of length zero gets one tick. MIDI
    cannot express which of two overlapping notes of one pitch a note-off ends: read back, the first one ends first.
    """
    conductor = Chunk()
    conductor.timeline(score)
    return smf_bytes([conductor, *map(_chunk, score.tracks)], score.ticks_per_quarter)


def _chunk(track: Track) -> Chunk:
    chunk = Chunk(track.name)
    chunk.program(track.channel, track.program)
    chunk.notes(track.channel, map(_in_range, track.notes))
    return chunk


def _in_range(note: Note) -> Note:
    return note._replace(duration=max(1, note.duration), velocity=min(127, max(1, note.velocity)))
