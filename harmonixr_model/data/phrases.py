"""Find the phrases of a piece by its self-similarity: repeated stretches of bars, and the stretches between them."""

# B bars

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harmonixr_model.music.score import Bar
from harmonixr_model.notes.encoded_score import EncodedScore

SHORTEST, LONGEST = 2, 8
SIMILAR = 0.5  # bars whose notes' F1 (track, sixteenth of the bar, pitch) reaches this are the same music


def phrases(encoded: EncodedScore, bars: Sequence[Bar]) -> list[tuple[int, int]]:
    """Return the phrases among consecutive `bars` as (first, count), counted from the first of them, in order.

    A phrase runs from one boundary to another and has SHORTEST to LONGEST bars. Boundaries are the beginnings and ends
    of runs of bars that are repeated among `bars`; without repeats, the bars that differ most from the previous one.
    """
    similarity_BB = similarity(encoded, bars)
    edges = sorted(_edges_of_repeats(similarity_BB) or _breaks(similarity_BB))
    inside = [edge for edge in edges if 0 < edge < len(bars)]
    borders = [0, *inside, len(bars)]
    return [
        (first, end - first)
        for i, first in enumerate(borders)
        for end in borders[i + 1 :]
        if SHORTEST <= end - first <= LONGEST
    ]


def similarity(encoded: EncodedScore, bars: Sequence[Bar]) -> npt.NDArray[np.float64]:
    """Return how similar each two bars are, [B, B]: the F1 of their notes (track, sixteenth, pitch); 0 for silence."""
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


def _edges_of_repeats(similarity_BB: npt.NDArray[np.float64]) -> set[int]:
    """Return where repeated runs of at least SHORTEST bars begin and end."""
    edges: set[int] = set()
    for offset in range(1, len(similarity_BB)):
        same = np.diagonal(similarity_BB, offset) >= SIMILAR
        changes = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
        for begin, end in changes.reshape(-1, 2).tolist():
            # A vamp is similar at every offset: only a repeat at least as far away as its length is a phrase.
            if SHORTEST <= end - begin <= offset:
                edges |= {begin, end, begin + offset, end + offset}
    return edges


def _breaks(similarity_BB: npt.NDArray[np.float64]) -> set[int]:
    """Return the bars that are less similar to the previous bar than their neighbours are to theirs."""
    to_last = np.concatenate(([1.0], np.diagonal(similarity_BB, 1), [1.0]))
    return {
        i for (i, here), (_, after) in pairwise(enumerate(to_last)) if i and here <= to_last[i - 1] and here < after
    }
