"""Short pieces of our own composer, each with a gap in a short context. Knows no store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
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
# Tracks of the composer's band to keep, most first: fewer where they would take too many tokens.
_BANDS = ((0, 1, 2), (0, 2), (1, 2), (0, 1))


@dataclass(frozen=True)
class Gap:
    """A gap in a short piece. `bars` counts from 1, `track` too."""

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


def composed_gaps(
    pieces: int, *, seed: int, max_context: int, max_length: int, with_examples: bool = False
) -> Iterator[Gap]:
    """Yield one gap in each of `pieces` different pieces, in a context of at most `max_context` tokens.

    `max_length` is that of the model that reads them.

    Pieces are those that the composer writes from `seed` on, so seeds far apart share none.
    """
    made = 0
    for piece_id, scores in _pieces(seed):
        rng = Random(f"{seed} {piece_id}")
        if made == pieces:
            return
        gap = next(
            (gap for score in scores if (gap := _gap(piece_id, score, rng, max_context, max_length)) is not None), None
        )
        if gap is not None:
            yield gap
            made += 1


def _pieces(seed: int) -> Iterator[tuple[str, list[Score]]]:
    """Yield pieces without end, each in versions from full to sparse."""
    number = seed
    while True:
        band = compose(number, bars=BARS)
        yield f"composed-{number}", [replace(band, tracks=tuple(band.tracks[i] for i in kept)) for kept in _BANDS]
        number += 1


def _gap(piece_id: str, score: Score, rng: Random, max_context: int, max_length: int) -> Gap | None:
    """Return a gap of a pitched track somewhere within, or None where no gap fits."""
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
