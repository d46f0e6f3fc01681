"""The share of a fill that occurs note for note in the training music, in any key.

The fills are hashed, and the training pieces are read once: memory grows with the fills and not with the corpus.
"""

# N notes, G n-grams

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harmonixr_model.evaluation.metrics import Fills, Ratio, notes_by_track
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Note, Score

LENGTHS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
COPY = 8  # notes: chance rarely repeats such a run, and phrases are often as long
COPIED, LONGEST = f"share of notes in runs of {COPY} from training", "longest run from training, notes"
_SIXTEENTH, _LONGEST_WAIT = 6, 16
# The low bits of a hash that select an entry of the sieve, which rules out most hashes quickly.
_SIEVE_BITS = 22
# The odd multiplier of a 64-bit linear congruential generator (Knuth, MMIX) and its inverse modulo 2^64.
_BASE = np.uint64(6364136223846793005)
_INVERSE = np.uint64(pow(6364136223846793005, -1, 1 << 64))

_SIEVE_MASK = np.uint64((1 << _SIEVE_BITS) - 1)

Hashes = npt.NDArray[np.uint64]


@dataclass(slots=True)
class CopyFinder:
    """Finds copies: add all fills, read the training music once, then measure each fill."""

    _pending: dict[int, list[Hashes]] = field(default_factory=lambda: {length: [] for length in LENGTHS})
    _needles: dict[int, Hashes] = field(default_factory=dict)
    _found: dict[int, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def add(self, item: EvaluationItem, fill: Fills) -> None:
        """Add a fill to the search."""
        for notes in _melodies(item, fill):
            for length, grams in ngrams(notes, LENGTHS).items():
                self._pending[length].append(grams)

    def read(self, training: Iterable[Score]) -> None:
        """Search the training music once."""
        empty = [np.empty(0, dtype=np.uint64)]
        self._needles = {length: np.unique(np.concatenate(grams or empty)) for length, grams in self._pending.items()}
        self._found = {length: np.zeros(len(grams), dtype=bool) for length, grams in self._needles.items()}
        lengths = [length for length, needles in self._needles.items() if len(needles)]
        sieves = {length: _sieve(self._needles[length]) for length in lengths}
        for score in training:
            for track in score.tracks:
                for length, grams in ngrams(track.notes, lengths).items():
                    likely = grams[sieves[length][grams & _SIEVE_MASK]]
                    needles = self._needles[length]
                    at = np.minimum(np.searchsorted(needles, likely), len(needles) - 1)
                    self._found[length][at[needles[at] == likely]] = True

    def measure(self, item: EvaluationItem, fill: Fills) -> dict[str, Ratio]:
        """Return COPIED and LONGEST of an added fill; COPIED omits tracks with fewer than COPY notes in the gap."""
        copied = long_enough = longest = 0
        for notes in _melodies(item, fill):
            occurs = {length: self._occurs(grams, length) for length, grams in ngrams(notes, LENGTHS).items()}
            if len(notes) >= COPY:
                is_copied = np.zeros(len(notes), dtype=bool)
                for at in np.flatnonzero(occurs[COPY]):
                    is_copied[at : at + COPY] = True
                copied += int(is_copied.sum())
                long_enough += len(notes)
            longest = max([longest, *(length for length, found in occurs.items() if found.any())])
        return {COPIED: Ratio(copied, long_enough), LONGEST: Ratio(longest, 1 if any(fill) else 0)}

    def _occurs(self, grams: Hashes, length: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = self._found[length][np.searchsorted(self._needles[length], grams)]
        return found


def ngrams(notes: Sequence[Note], lengths: Iterable[int]) -> dict[int, Hashes]:
    """Return by length the hashes of all runs of consecutive notes, uint64 [G]: equal for equal intervals and waits.

    Notes are sorted by (onset, pitch), waits are in sixteenths. The hash is a polynomial of the steps between notes
    (Karp and Rabin 1987), so one sum gives all lengths.
    """
    if len(notes) < 2:
        return {length: np.empty(0, dtype=np.uint64) for length in lengths}
    onset_N, pitch_N = np.array([(note.onset, note.pitch) for note in notes], dtype=np.int64).T
    wait_N = np.minimum(np.diff((onset_N + _SIXTEENTH // 2) // _SIXTEENTH), _LONGEST_WAIT)
    steps_N = _mixed(((np.diff(pitch_N) + 128) * 128 + wait_N).astype(np.uint64))
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(steps_N * _powers(_BASE, len(steps_N)))])
    unshift = _powers(_INVERSE, len(sums))
    counts = {length: max(0, len(sums) - length + 1) for length in lengths}
    return {n: (sums[n - 1 : n - 1 + count] - sums[:count]) * unshift[:count] for n, count in counts.items()}


def _powers(base: np.uint64, count: int) -> Hashes:
    powers: Hashes = np.cumprod(np.full(count, base), dtype=np.uint64)
    return powers


def _sieve(needles: Hashes) -> npt.NDArray[np.bool_]:
    sieve = np.zeros(1 << _SIEVE_BITS, dtype=bool)
    sieve[needles & _SIEVE_MASK] = True
    return sieve


def _mixed(values: Hashes) -> Hashes:
    """Spread small numbers over 64 bits (the finalizer of Steele et al. 2014, SplitMix)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _melodies(item: EvaluationItem, fill: Fills) -> list[list[Note]]:
    """Return each track's notes in the gap, sorted."""
    tracks = notes_by_track(item.prompt.cells, fill)
    return [sorted(notes, key=lambda note: (note.onset, note.pitch)) for notes in tracks.values()]
