"""Find near-duplicates: the same music in another key, with other tracks, or with a few other notes.

A piece is a set of shingles, runs of the intervals between the top notes of its sixteenths; the similarity of two
pieces is the Jaccard index of their sets, estimated by min-hash (Broder 1997) and found by banding (Leskovec et al.,
"Mining of Massive Datasets", 3.4).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from harmonixr_model.music.score import Score

SIGNATURE = 64
BANDS = 16
SHINGLE = 8
SIMILAR = 0.5
# Sixteenths: finer timing differs between copies of one file. Shingles have no rhythm either: among copies whose
# triplets another program had quantised to its grid, shingles with rhythm found 26 of 40 songs, those without all.
_SLOT = 6
_MULTIPLIERS = np.random.default_rng(0).integers(1, 2**63, size=SIGNATURE, dtype=np.uint64) | np.uint64(1)
_SHIFTS = np.random.default_rng(1).integers(0, 2**63, size=SIGNATURE, dtype=np.uint64)


def fingerprint(score: Score) -> tuple[int, ...]:
    """Return the min-hash signature of a grid score: the same in every key; empty for pieces of too few onsets."""
    shingles = _shingles(score)
    if not len(shingles):
        return ()
    # Multiply-add hashing modulo 2^64, upper half: enough mixing for estimates of this size.
    hashed = (shingles[:, None] * _MULTIPLIERS + _SHIFTS) >> np.uint64(32)
    return tuple(int(value) for value in hashed.min(axis=0))


def _shingles(score: Score) -> npt.NDArray[np.uint64]:
    """Return a hash of each run of SHINGLE intervals along the highest notes; rhythm counts for drums only."""
    pitched = [track for track in score.tracks if not track.is_drum]
    notes = [(n.onset, n.pitch) for track in pitched or score.tracks for n in track.notes]
    # The highest note of each slot, in order.
    highest = dict(sorted(((onset + _SLOT // 2) // _SLOT, pitch) for onset, pitch in notes))
    if len(highest) <= SHINGLE:
        return np.empty(0, dtype=np.uint64)
    top = np.array(list(highest.items()), dtype=np.int64)
    interval = np.diff(top[:, 1]) + 128
    rhythm = 0 if pitched else np.minimum(np.diff(top[:, 0]), 63)
    symbols = (interval * 64 + rhythm).astype(np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(symbols, SHINGLE)
    value = np.zeros(len(runs), dtype=np.uint64)
    for column in range(SHINGLE):
        value = (value ^ runs[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(29)
    return np.unique(value)


def similarity(one: Sequence[int], two: Sequence[int]) -> float:
    """Return the estimated Jaccard index of two signatures."""
    if not one or not two:
        return 0.0
    return float(np.mean(np.array(one) == np.array(two)))


def near_duplicates(signatures: Sequence[Sequence[int]]) -> list[int]:
    """Return for each piece the number of the first piece of its cluster; clusters are closed under similarity."""
    clusters = _Clusters(range(len(signatures)))
    rows = SIGNATURE // BANDS
    buckets: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, signature in enumerate(signatures):
        for band in range(BANDS if signature else 0):
            key = (band, *signature[band * rows : (band + 1) * rows])
            # Comparing with the first few of a bucket is enough: similar pieces join their cluster.
            for other in buckets[key][:4]:
                if clusters.root(i) != clusters.root(other) and similarity(signature, signatures[other]) >= SIMILAR:
                    clusters.join(i, other)
            buckets[key].append(i)
    return clusters.roots()


def merge_clusters(first_of: Sequence[int], keys: Sequence[Iterable[str]]) -> list[int]:
    """Return clusters as `near_duplicates` does, with those that share any key merged."""
    clusters = _Clusters(first_of)
    holder: dict[str, int] = {}
    for i, names in enumerate(keys):
        for name in names:
            clusters.join(i, holder.setdefault(name, i))
    return clusters.roots()


class _Clusters:
    """Disjoint sets of numbers, each named by its smallest member."""

    def __init__(self, first_of: Iterable[int]) -> None:
        self._parent = list(first_of)

    def root(self, i: int) -> int:
        parent = self._parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low

    def roots(self) -> list[int]:
        return [self.root(i) for i in range(len(self._parent))]
