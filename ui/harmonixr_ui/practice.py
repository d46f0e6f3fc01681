"""A pair to practise on: the original of a bundled example, and the same rhythm with random pitches.

The judgment is not counted, so the page may know the better side.
"""

from __future__ import annotations

import base64
import random
from functools import lru_cache
from typing import Any

from harmonixr_model import examples
from harmonixr_model.music.region import Region
from harmonixr_model.music.region_text import read_region
from harmonixr_model.music.score import Note, Score
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice

EXAMPLE, FIRST_BAR, LAST_BAR, TRACK = "minuet-in-g", 5, 6, 1
_BARS_BEFORE, _BARS_AFTER = 2, 1
_SEED = 3
_MIN_HEARD = 0.75


@lru_cache(maxsize=1)
def practice_pair() -> dict[str, Any]:
    """Return the pair for the listening page, which fetches its sounds as previews. `better` names the original."""
    song = Song.parse(examples.load(EXAMPLE))
    region = read_region(song, bars=f"{FIRST_BAR}-{LAST_BAR}", tracks=[TRACK])
    score, track = song.score, TRACK - 1
    written = [note for note in score.tracks[track].notes if region.contains(track, note)]
    random_pitches = splice(song, region, {track: _repitched(written)})
    bars = score.bars
    return {
        "start_s": score.seconds(region.start),
        "end_s": score.seconds(region.end),
        "audio_start_s": score.seconds(bars[FIRST_BAR - 1 - _BARS_BEFORE].start),
        "audio_end_s": score.seconds(bars[LAST_BAR - 1 + _BARS_AFTER].end),
        "min_heard": _MIN_HEARD,
        "region": {"bars": f"{FIRST_BAR}-{LAST_BAR}", "tracks": [TRACK]},
        "a": _side(random_pitches.midi, region),
        "b": _side(song.midi.source, region),
        "better": "b",
    }


def _repitched(notes: list[Note]) -> list[Note]:
    rng = random.Random(_SEED)
    return [note._replace(pitch=rng.randrange(55, 92)) for note in notes]


def _side(midi: bytes, region: Region) -> dict[str, Any]:
    score = Song.parse(midi).score
    notes = [
        _roll_note(score, index, note)
        for index, track in enumerate(score.tracks)
        for note in track.notes
        if region.contains(index, note)
    ]
    return {"midi_base64": base64.b64encode(midi).decode(), "notes": notes}


def _roll_note(score: Score, index: int, note: Note) -> dict[str, float]:
    start_s = score.seconds(note.onset)
    return {
        "track": index + 1,
        "onset_tick": note.onset,
        "duration_ticks": note.duration,
        "onset_s": start_s,
        "duration_s": score.seconds(note.end) - start_s,
        "pitch": note.pitch,
    }
