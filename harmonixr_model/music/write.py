"""Write a Score as a fresh MIDI file. Knows nothing of the file a score may have come from: `splice` keeps that one."""

from __future__ import annotations

from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.music.smf import Chunk, smf_bytes

_MAX_US_PER_QUARTER = 0xFF_FFFF


def write_midi(score: Score) -> bytes:
    """Return a format 1 file: a chunk of tempos and metres, then one for each track with its name and program.

    Tracks keep their channels. Velocities outside 1-127 are clamped, and a note of no length gets one tick. Two notes
    of one pitch that overlap on a track are read back paired first in, first out, as MIDI has no way to say which of
    them an end belongs to.
    """
    return smf_bytes([_conductor(score), *map(_chunk, score.tracks)], score.ticks_per_quarter)


def _conductor(score: Score) -> Chunk:
    chunk = Chunk()
    for signature in score.time_signatures:
        chunk.time_signature(*signature)
    for tempo in score.tempos:
        chunk.tempo(tempo.tick, min(_MAX_US_PER_QUARTER, max(1, tempo.us_per_quarter)))
    return chunk


def _chunk(track: Track) -> Chunk:
    chunk = Chunk(track.name)
    chunk.program(track.channel, track.program)
    chunk.notes(track.channel, [_sane(note) for note in track.notes])
    return chunk


def _sane(note: Note) -> Note:
    return note._replace(duration=max(1, note.duration), velocity=min(127, max(1, note.velocity)))
