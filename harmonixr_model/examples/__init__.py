"""Bundled music: three public-domain pieces in notation, and songs of the project's composer program.

`load` makes the MIDI files; none is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.examples import pieces
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.score import Score
from harmonixr_model.music.write import Chunk, smf_bytes, track_chunk


@dataclass(frozen=True, slots=True)
class Example:
    """The title, composer and licence of a piece."""

    name: str
    title: str
    composer: str
    years: str
    licence: str


_PUBLIC_DOMAIN = "public domain: the composer died more than two hundred years ago; written down for this project"
_OWN = "made by this project's composer program, under the project's licence"
# name: (title, composer, years, score)
_PIECES: dict[str, tuple[str, str, str, Callable[[], Score]]] = {
    "prelude-in-c": ("Prelude in C major, BWV 846", "Johann Sebastian Bach", "1685-1750", pieces.prelude_in_c),
    "minuet-in-g": ("Minuet in G major, BWV Anh. 114", "Christian Petzold", "1677-1733", pieces.minuet_in_g),
    "canon-in-d": ("Canon in D, opening", "Johann Pachelbel", "1653-1706", pieces.canon_in_d),
}
_SONGS = {"song-1": 22, "song-2": 14, "song-3": 24}


def names() -> tuple[str, ...]:
    """Return the names of all examples."""
    return (*_PIECES, *_SONGS)


def about(name: str) -> Example:
    """Return the title, composer and licence of an example; raises HarmonixrError for an unknown name."""
    if name in _PIECES:
        title, composer, years, _ = _PIECES[name]
        return Example(name, title, composer, years, _PUBLIC_DOMAIN)
    if name in _SONGS:
        return Example(name, f"Song {name[-1]} (four tracks)", "Harmonixr's composer program", "", _OWN)
    raise HarmonixrError(f"there is no example {name!r}; choose one of {', '.join(names())}")


def load(name: str) -> bytes:
    """Return an example as a MIDI file; raises HarmonixrError for an unknown name."""
    example = about(name)
    if name in _SONGS:
        return compose_song(_SONGS[name])
    return _file(example, _PIECES[name][3]())


def _file(example: Example, score: Score) -> bytes:
    conductor = Chunk(example.title)
    conductor.text(0, "text", f"{example.composer} ({example.years})")
    conductor.text(0, "copyright", example.licence)
    conductor.timeline(score)
    tracks = [track_chunk(track, volume=100) for track in score.tracks]
    return smf_bytes([conductor, *tracks], score.ticks_per_quarter)
