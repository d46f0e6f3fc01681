"""Gold pairs, whose outcome is known: a fill against an audibly broken copy of it, or against itself.

A broken copy has as many notes as the fill, except for notes that would overlap others, so that the number of notes
does not reveal it.
"""

from __future__ import annotations

import base64
import hashlib
import random
from typing import Literal

from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice
from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.records.pairs import make_pair
from harmonixr_platform.requests import resolve_region
from harmonixr_platform.schemas import Candidate, Pair

BROKEN = "broken"
# Intervals in semitones that leave most scales and clash with the context.
_WRONG = (-6, -1, 1, 6)
# Fractions of a quarter note: audibly off the beat at any tempo.
_LATE = (0.17, 0.29, 0.38)
_VELOCITIES = (40, 127)
_FEWEST_NOTES = 3


def broken_pair(pair: Pair, rng: random.Random) -> tuple[Pair, Literal["first", "second"]]:
    """Return a pair of a fill of `pair` and its broken copy, and which of the two is intact.

    Raises FeedbackError if the fill has too few notes to be broken audibly.
    """
    good = rng.choice((pair.first, pair.second))
    song = Song.parse(base64.b64decode(pair.context_base64))
    midi = broken_fill(song, resolve_region(pair.region, song), base64.b64decode(good.midi_base64), rng)
    bad = good.model_copy(
        update={
            "model_version": BROKEN,
            # No model made these notes, so there are no tokens.
            "tokens": (),
            "midi_sha256": hashlib.sha256(midi).hexdigest(),
            "midi_base64": base64.b64encode(midi).decode(),
        }
    )
    if rng.random() < 0.5:
        return _pair(pair, good, bad), "first"
    return _pair(pair, bad, good), "second"


def identical_pair(pair: Pair, rng: random.Random) -> Pair:
    """Return a pair of a fill of `pair` and itself, which expects a tie."""
    one = rng.choice((pair.first, pair.second))
    return _pair(pair, one, one)


def broken_fill(song: Song, region: Region, filled: bytes, rng: random.Random) -> bytes:
    """Return the filled song with each note of the fill off the beat, with a random velocity and a wrong pitch."""
    beat = song.score.ticks_per_quarter
    tracks = Song.parse(filled).score.tracks
    fill = {
        index: [
            _broken(note, region, beat=beat, is_drum=tracks[index].is_drum, rng=rng)
            for note in tracks[index].notes
            if region.contains(index, note)
        ]
        for index in region.tracks
        if index < len(tracks)
    }
    if sum(map(len, fill.values())) < _FEWEST_NOTES:
        raise FeedbackError(f"a fill of fewer than {_FEWEST_NOTES} notes cannot be broken audibly")
    return splice(song, region, fill).midi


def _broken(note: Note, region: Region, *, beat: int, is_drum: bool, rng: random.Random) -> Note:
    late = round(rng.choice(_LATE) * beat)
    onset = note.onset + late if note.onset + late < region.end else max(region.start, note.onset - late)
    pitch = rng.randrange(35, 82) if is_drum else min(127, max(0, note.pitch + rng.choice(_WRONG)))
    return Note(onset, note.duration, pitch, rng.choice(_VELOCITIES))


def _pair(pair: Pair, first: Candidate, second: Candidate) -> Pair:
    return make_pair(
        base64.b64decode(pair.context_base64),
        piece_id=pair.piece_id,
        region=pair.region,
        controls=pair.controls,
        first=first,
        second=second,
    )
