"""A simulated listener with a known hidden utility, so that a model fitted to its judgments can be checked.

    utility = scale · (share of the fill's pitched notes in the scale that fits the rest of the song best)
            + groove · (similarity of the rhythms of the fill's bars and of the same tracks' other bars)

Groove similarity is that of Wu and Yang (2020), "The Jazz Transformer on the Front Line", section 4.2: one less the
share of a bar's positions at which one of two bars has an onset and the other has none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Bar, Note, Score

_MAJOR = frozenset((0, 2, 4, 5, 7, 9, 11))
# Positions a quarter at which rhythms are compared: sixteenths.
_PER_QUARTER = 4
# The bars on either side of the gap that define its groove.
_NEAR_BARS = 4

Preference = Literal["first", "second", "tie"]


@dataclass(frozen=True, slots=True)
class Taste:
    """The hidden utility and the noise of a simulated listener.

    `noise` is the standard deviation of the error of each utility. Two noisy utilities closer than `tie_within` are a
    tie.
    """

    scale: float = 1.0
    groove: float = 2.0
    noise: float = 0.1
    tie_within: float = 0.03

    def utility(self, score: Score, region: Region, fill: Mapping[int, Sequence[Note]]) -> float:
        """Return the utility of a fill, without noise.

        Args:
            score: the song; the notes that a fill of the region replaces are ignored.
            region: the gap.
            fill: the notes in it, in the score's ticks, by track from 0.

        """
        context = region.without(score)
        return self.scale * scale_consistency(context, fill) + self.groove * groove_similarity(context, region, fill)

    def choose(self, first: float, second: float, rng: Random) -> Preference:
        """Return the preference between two utilities, with noise."""
        margin = first + rng.gauss(0, self.noise) - second - rng.gauss(0, self.noise)
        if abs(margin) < self.tie_within:
            return "tie"
        return "first" if margin > 0 else "second"

    def chance_first_is_chosen(self, first: float, second: float) -> float:
        """Return the probability of the first among decided preferences: the output of a perfect reward model."""
        spread = math.sqrt(2) * self.noise
        wins, loses = (
            0.5 * math.erfc((self.tie_within - sign * (first - second)) / (spread * math.sqrt(2))) for sign in (1, -1)
        )
        return wins / (wins + loses)


def scale_consistency(context: Score, fill: Mapping[int, Sequence[Note]]) -> float:
    """Return the share of pitched notes in the diatonic scale that fits the context best; 0 without any."""
    classes = Counter(n.pitch % 12 for track in context.tracks if not track.is_drum for n in track.notes)
    tonic = max(range(12), key=lambda t: sum(count for p, count in classes.items() if (p - t) % 12 in _MAJOR))
    pitched = [n for track, notes in fill.items() if not context.tracks[track].is_drum for n in notes]
    if not pitched:
        return 0.0  # else the best fill would be silence
    return sum((note.pitch - tonic) % 12 in _MAJOR for note in pitched) / len(pitched)


def groove_similarity(context: Score, region: Region, fill: Mapping[int, Sequence[Note]]) -> float:
    """Return the mean similarity of each filled bar's rhythm to the bars around it on its track; 0 without any."""
    bars = context.bars_until(max(context.end, region.end))
    similarities = []
    for cell in region.cells:
        inside = [bar for bar in bars if cell.start <= bar.start and bar.end <= cell.end]
        if not inside:
            continue
        near = bars[max(0, inside[0].index - _NEAR_BARS) : inside[-1].index + _NEAR_BARS + 1]
        around = [bar for bar in near if bar not in inside]
        notes = fill.get(cell.track, ())
        for bar in inside:
            same_metre = [other for other in around if other.end - other.start == bar.end - bar.start]
            rhythms = [r for other in same_metre if (r := _rhythm(context, context.tracks[cell.track].notes, other))]
            rhythm = _rhythm(context, notes, bar)
            similarities += [_similarity(rhythm, other, context, bar) for other in rhythms]
    return sum(similarities) / len(similarities) if similarities else 0.0


def _rhythm(score: Score, notes: Sequence[Note], bar: Bar) -> frozenset[int]:
    """Return the positions of a bar at which a note begins."""
    step = score.ticks_per_quarter / _PER_QUARTER
    return frozenset(round((n.onset - bar.start) / step) for n in notes if bar.start <= n.onset < bar.end)


def _similarity(one: frozenset[int], other: frozenset[int], score: Score, bar: Bar) -> float:
    positions = (bar.end - bar.start) * _PER_QUARTER / score.ticks_per_quarter
    return 1 - len(one ^ other) / positions
