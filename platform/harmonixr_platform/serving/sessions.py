"""A request as the library's fill session: the one reading of it that all stages share. Knows no stage and no model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from harmonixr_model.music.midi import MidiLimits
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Score
from harmonixr_model.music.song import Song
from harmonixr_model.session import FillSession
from harmonixr_platform.requests import limits_of, resolve_region
from harmonixr_platform.schemas import InfillOptions, PlacedNote

# A song is read by several stages, and once more for every window.
_CACHED_SONGS = 16


@lru_cache(_CACHED_SONGS)
def read_song(midi: bytes, max_midi_bytes: int) -> Song:
    """Return the song; raises MidiError."""
    return Song.parse(midi, limits=MidiLimits(max_bytes=max_midi_bytes))


def region_of(song: Song, options: InfillOptions) -> Region:
    """Return what may change; raises RegionError."""
    return resolve_region(options.region, song)


def open_session(
    song: Song, options: InfillOptions, *, max_length: int, done: Sequence[Sequence[int]] = ()
) -> FillSession:
    """Return the session of a request, its first windows answered by `done`."""
    limits = limits_of(options.controls)
    session = FillSession(song, region_of(song, options), max_length=max_length, limits=limits)
    for tokens in done:
        session.accept(tokens)
    return session


def placed_note(score: Score, track: int, note: Note) -> PlacedNote:
    """Return a note of track `track` (from 0) for drawing."""
    onset_s = score.seconds(note.onset)
    return PlacedNote(
        track=track + 1,
        onset_tick=note.onset,
        duration_ticks=note.duration,
        onset_s=onset_s,
        duration_s=score.seconds(note.end) - onset_s,
        pitch=note.pitch,
        velocity=max(1, note.velocity),
    )
