"""Find the phrases of a piece by its self-similarity: stretches of bars that come again, and what lies between.

Knows nothing of masks or tokens' layout.
"""

# B bars

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harmonixr_model.music.score import Bar
from harmonixr_model.notes.encoded_score import EncodedScore

SHORTEST, LONGEST = 2, 8
ALIKE = 0.5  # bars whose notes' F1 (track, sixteenth of the bar, pitch) reaches this are the same music


def phrases(encoded: EncodedScore, bars: Sequence[Bar]) -> list[tuple[int, int]]:
    """Return the phrases among consecutive `bars` as (first, count), counted from the first of them, in order.

    A phrase runs from one boundary to another and has SHORTEST to LONGEST bars. Boundaries are where a run of bars
    that comes again elsewhere among `bars` begins or ends; where nothing does, the bars that differ most from the one
    before them.
    """
    alike_BB = similarity(encoded, bars)
    edges = sorted(_edges_of_repeats(alike_BB) or _breaks(alike_BB))
    inside = [edge for edge in edges if 0 < edge < len(bars)]
    borders = [0, *inside, len(bars)]
    return [
        (first, end - first)
        for i, first in enumerate(borders)
        for end in borders[i + 1 :]
        if SHORTEST <= end - first <= LONGEST
    ]


def similarity(encoded: EncodedScore, bars: Sequence[Bar]) -> npt.NDArray[np.float64]:
    """Return how alike each two bars are, [B, B]: the F1 of their notes (track, sixteenth, pitch); 0 where silent."""
    count, first = len(bars), bars[0].index
    bar_of: list[npt.NDArray[np.int64]] = []
    keys: list[npt.NDArray[np.int64]] = []
    for track in range(len(encoded.tracks)):
        bar_N, key_N = encoded.places(track)
        near = (bar_N >= first) & (bar_N < first + count)
        bar_of.append(bar_N[near] - first)
        keys.append(key_N[near] + track * (1 << 20))
    _, key_N = np.unique(np.concatenate(keys), return_inverse=True)
    plays = np.zeros((count, int(key_N.max(initial=0)) + 1))
    plays[np.concatenate(bar_of), key_N] = 1
    sizes = plays.sum(axis=1)
    f1: npt.NDArray[np.float64] = 2 * (plays @ plays.T) / np.maximum(sizes[:, None] + sizes, 1)
    return f1


def _edges_of_repeats(alike_BB: npt.NDArray[np.float64]) -> set[int]:
    """Return where runs of at least SHORTEST bars that come again begin and end."""
    edges: set[int] = set()
    for offset in range(1, len(alike_BB)):
        same = np.diagonal(alike_BB, offset) >= ALIKE
        changes = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
        for begin, end in changes.reshape(-1, 2).tolist():
            # A vamp is alike at every offset: only a repeat at least as far away as it is long is one of a phrase.
            if SHORTEST <= end - begin <= offset:
                edges |= {begin, end, begin + offset, end + offset}
    return edges


def _breaks(alike_BB: npt.NDArray[np.float64]) -> set[int]:
    """Return the bars that are less like the one before than their neighbours are."""
    to_last = np.concatenate(([1.0], np.diagonal(alike_BB, 1), [1.0]))
    return {
        i for (i, here), (_, after) in pairwise(enumerate(to_last)) if i and here <= to_last[i - 1] and here < after
    }
