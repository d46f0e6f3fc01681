"""A simulated listener whose hidden taste is known, so that everything learned from its answers can be checked.

    utility = scale · (share of the fill's pitched notes in the scale that fits the rest of the song best)
            + groove · (how alike the rhythms of the fill's bars and of the same tracks' other bars are)

Groove similarity is that of Wu and Yang (2020), "The Jazz Transformer on the Front Line", section 4.2: one less the
share of a bar's positions at which one of two bars has an onset and the other has none. Knows no model, no store and
no HTTP.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from harmonixr_model.fill.session import region_context
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Bar, Note, Score

_MAJOR = frozenset((0, 2, 4, 5, 7, 9, 11))
# Positions a quarter at which rhythms are compared: sixteenths.
_PER_QUARTER = 4
# How many bars on either side of the gap set its groove.
_NEAR_BARS = 4

Answer = Literal["first", "second", "tie"]


@dataclass(frozen=True, slots=True)
class Taste:
    """What a simulated listener likes and how surely it hears it.

    `noise` is the standard deviation of what is added to a utility at each hearing; two sides closer than `tie_within`
    after that are called a tie.
    """

    scale: float = 1.0
    groove: float = 2.0
    noise: float = 0.1
    tie_within: float = 0.03

    def utility(self, score: Score, region: Region, fill: Mapping[int, Sequence[Note]]) -> float:
        """Return how much a fill is liked, without noise.

        Args:
            score: the song; what the region lets a fill replace is not looked at.
            region: the gap.
            fill: the notes in it, in the score's ticks, by track from 0.

        """
        context = region_context(score, region)
        return self.scale * scale_consistency(context, fill) + self.groove * groove_similarity(context, region, fill)

    def choose(self, first: float, second: float, rng: Random) -> Answer:
        """Return the answer to two utilities, as one hearing of each gives it."""
        margin = first + rng.gauss(0, self.noise) - second - rng.gauss(0, self.noise)
        if abs(margin) < self.tie_within:
            return "tie"
        return "first" if margin > 0 else "second"

    def chance_first_is_chosen(self, first: float, second: float) -> float:
        """Return the probability that a decided answer is the first: what a perfect reward model would say."""
        spread = math.sqrt(2) * self.noise
        wins, loses = (
            0.5 * math.erfc((self.tie_within - sign * (first - second)) / (spread * math.sqrt(2))) for sign in (1, -1)
        )
        return wins / (wins + loses)


def scale_consistency(context: Score, fill: Mapping[int, Sequence[Note]]) -> float:
    """Return the share of pitched notes in the diatonic scale that fits the context best; 0 without any."""
    heard = Counter(n.pitch % 12 for track in context.tracks if not track.is_drum for n in track.notes)
    tonic = max(range(12), key=lambda t: sum(count for p, count in heard.items() if (p - t) % 12 in _MAJOR))
    pitched = [n for track, notes in fill.items() if not context.tracks[track].is_drum for n in notes]
    if not pitched:
        return 0.0  # else the best fill would be silence
    return sum((note.pitch - tonic) % 12 in _MAJOR for note in pitched) / len(pitched)


def groove_similarity(context: Score, region: Region, fill: Mapping[int, Sequence[Note]]) -> float:
    """Return the mean similarity of each filled bar's rhythm to those of its track's bars around; 0 without any."""
    bars = context.bars_until(max(context.end, region.end))
    similarities = []
    for cell in region.cells:
        inside = [bar for bar in bars if cell.start <= bar.start and bar.end <= cell.end]
        if not inside:
            continue
        near = bars[max(0, inside[0].index - _NEAR_BARS) : inside[-1].index + _NEAR_BARS + 1]
        around = [bar for bar in near if bar not in inside]
        made = fill.get(cell.track, ())
        for bar in inside:
            same_metre = [other for other in around if other.end - other.start == bar.end - bar.start]
            rhythms = [r for other in same_metre if (r := _rhythm(context, context.tracks[cell.track].notes, other))]
            played = _rhythm(context, made, bar)
            similarities += [_alike(played, rhythm, context, bar) for rhythm in rhythms]
    return sum(similarities) / len(similarities) if similarities else 0.0


def _rhythm(score: Score, notes: Sequence[Note], bar: Bar) -> frozenset[int]:
    """Return the positions of a bar at which a note begins."""
    step = score.ticks_per_quarter / _PER_QUARTER
    return frozenset(round((n.onset - bar.start) / step) for n in notes if bar.start <= n.onset < bar.end)


def _alike(one: frozenset[int], other: frozenset[int], score: Score, bar: Bar) -> float:
    positions = (bar.end - bar.start) * _PER_QUARTER / score.ticks_per_quarter
    return 1 - len(one ^ other) / positions
