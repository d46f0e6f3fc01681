"""Gaps in short pieces of the bundled composer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from random import Random

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.fill.session import FillSession
from harmonixr_model.music.compose import compose
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Score
from harmonixr_model.music.song import Song
from harmonixr_model.music.write import write_midi

BARS = 8
GAP_BARS = 2
# The tracks of a piece, in versions from full to sparse, for pieces that have too many tokens.
_TRACKS = ((0, 1, 2), (0, 2), (1, 2), (0, 1))


@dataclass(frozen=True)
class Gap:
    """A gap in a short piece; `bars` and `track` count from 1."""

    piece_id: str
    midi: bytes
    bars: str
    track: int

    @cached_property
    def song(self) -> Song:
        """The piece, parsed."""
        return Song.parse(self.midi)

    @cached_property
    def region(self) -> Region:
        """The gap in the piece's ticks."""
        first, last = (int(bar) - 1 for bar in self.bars.split("-"))
        return Region.bars(self.song.score, first, last, tracks=[self.track - 1])


def composed_gaps(pieces: int, *, seed: int, max_context: int, max_length: int) -> Iterator[Gap]:
    """Yield one gap in each of `pieces` different pieces, in a context of at most `max_context` tokens.

    `max_length` is the model's. Equal seeds give equal gaps; distant seeds give different pieces.
    """
    found = 0
    for piece_id, scores in _pieces(seed):
        if found == pieces:
            return
        rng = Random(f"{seed} {piece_id}")
        gap = next((gap for score in scores if (gap := _gap(piece_id, score, rng, max_context, max_length))), None)
        if gap is not None:
            yield gap
            found += 1


def _pieces(seed: int) -> Iterator[tuple[str, list[Score]]]:
    """Yield an endless series of pieces, each in versions from full to sparse."""
    for number in count(seed):
        full = compose(number, bars=BARS)
        yield f"composed-{number}", [replace(full, tracks=tuple(full.tracks[i] for i in tracks)) for tracks in _TRACKS]


def _gap(piece_id: str, score: Score, rng: Random, max_context: int, max_length: int) -> Gap | None:
    """Return a gap of a pitched track, not at the beginning or the end; None where no gap fits."""
    bars = score.bars
    if len(bars) <= GAP_BARS + 2:
        return None
    track = rng.choice([number for number, track in enumerate(score.tracks, 1) if not track.is_drum])
    first = rng.randrange(2, len(bars) - GAP_BARS)
    gap = Gap(piece_id, write_midi(score), f"{first + 1}-{first + GAP_BARS}", track)
    try:
        session = FillSession(gap.song, gap.region, max_length=max_length)
        prompt = session.next_prompt()
    except HarmonixrError:
        return None
    if prompt is None or len(session.windows) > 1 or len(prompt.prefix) > max_context:
        return None
    return gap
