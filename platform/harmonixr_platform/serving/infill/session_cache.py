"""The library's fill session of a request, and caches of sessions and songs. All stages share this code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from harmonixr_model.fill.session import FillSession
from harmonixr_model.music.midi import MidiLimits
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Score
from harmonixr_model.music.song import Song
from harmonixr_platform.requests import attribute_controls_of, constraints_of, resolve_region
from harmonixr_platform.schemas import InfillOptions, PlacedNote

# Several stages read a song, and once more for every window.
_CACHED_SONGS = 16
# The same gap comes again: with the tokens that fill it, and with other seeds.
_CACHED_SESSIONS = 32


@lru_cache(_CACHED_SONGS)
def read_song(midi: bytes, max_midi_bytes: int) -> Song:
    """Return the song; raises MidiError."""
    return Song.parse(midi, limits=MidiLimits(max_bytes=max_midi_bytes))


def region_of(song: Song, options: InfillOptions) -> Region:
    """Return the region of a request; raises RegionError."""
    return resolve_region(options.region, song)


def open_session(
    midi: bytes, options: InfillOptions, *, max_midi_bytes: int, max_length: int, done: Sequence[Sequence[int]] = ()
) -> FillSession:
    """Return the session of a request after the windows that `done`, sampled in the Model stage, fills."""
    # Other seeds and models share the session.
    shared_options = options.model_dump_json(exclude={"sampling", "model"})
    session = _first_session(midi, shared_options, max_midi_bytes, max_length).fork()
    for tokens in done:
        session.accept(tokens, check_grammar=False)
    return session


@lru_cache(_CACHED_SESSIONS)
def _first_session(midi: bytes, options_json: str, max_midi_bytes: int, max_length: int) -> FillSession:
    """Return a session with its first prompt. Callers fork it and leave it unchanged."""
    song, options = read_song(midi, max_midi_bytes), InfillOptions.model_validate_json(options_json)
    session = FillSession(
        song,
        region_of(song, options),
        max_length=max_length,
        constraints=constraints_of(options.controls),
        controls=attribute_controls_of(options.controls),
        field=options.controls.only,
    )
    session.next_prompt()
    return session


def placed_note(score: Score, track: int, note: Note) -> PlacedNote:
    """Return a note of track `track` (from 0) with its times in seconds."""
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
