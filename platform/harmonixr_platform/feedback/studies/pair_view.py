"""A pair as a rater sees and hears it: the notes of both fills, the gap's position, and the bars to play.

Nothing here reveals which model filled a side.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice
from harmonixr_platform.requests import resolve_region
from harmonixr_platform.schemas import Pair, PlacedNote

_BARS_BEFORE, _BARS_AFTER = 2, 1


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Seconds of the song: the audio excerpt and the gap inside it."""

    audio_start_s: float
    audio_end_s: float
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class PairView:
    """The song with an empty gap, the audio excerpt, and the notes of both fills."""

    context: bytes
    excerpt: Excerpt
    first: tuple[PlacedNote, ...]
    second: tuple[PlacedNote, ...]


def view_pair(pair: Pair) -> PairView:
    """Return the view of a pair."""
    song = Song.parse(base64.b64decode(pair.context_base64))
    region = resolve_region(pair.region, song)
    return PairView(
        context=splice(song, region, {}).midi,
        excerpt=excerpt(song, region),
        first=notes_in_gap(base64.b64decode(pair.first.midi_base64), region),
        second=notes_in_gap(base64.b64decode(pair.second.midi_base64), region),
    )


def excerpt(song: Song, region: Region) -> Excerpt:
    """Return the excerpt around a region: from two bars before it to one bar after."""
    score = song.score
    bars = score.bars_until(max(score.end, region.end))
    first = next((bar.index for bar in bars if bar.end > region.start), len(bars) - 1)
    last = next((bar.index for bar in reversed(bars) if bar.start < region.end), 0)
    return Excerpt(
        audio_start_s=score.seconds(bars[max(0, first - _BARS_BEFORE)].start),
        audio_end_s=score.seconds(bars[min(len(bars) - 1, last + _BARS_AFTER)].end),
        start_s=score.seconds(region.start),
        end_s=score.seconds(region.end),
    )


def notes_in_gap(midi: bytes, region: Region) -> tuple[PlacedNote, ...]:
    """Return the notes in the region of a filled song."""
    score = Song.parse(midi).score
    return tuple(
        PlacedNote(
            track=index + 1,
            onset_tick=note.onset,
            duration_ticks=note.duration,
            onset_s=score.seconds(note.onset),
            duration_s=score.seconds(note.end) - score.seconds(note.onset),
            pitch=note.pitch,
            velocity=note.velocity,
        )
        for index, track in enumerate(score.tracks)
        for note in track.notes
        if region.contains(index, note)
    )
