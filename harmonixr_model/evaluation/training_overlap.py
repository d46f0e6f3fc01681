"""How much of a fill stands note for note in the training music, in any key.

What is looked for is hashed, and the training pieces stream past it once: memory grows with the fills, never with the
corpus. Knows nothing of models.
"""

# N notes, G n-grams

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harmonixr_model.evaluation.metrics import Fills, Ratio
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Note, Score

LENGTHS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
COPY = 8  # notes: a run this long is rarely met by chance, and a phrase often has as many
COPIED, LONGEST = f"share of notes in runs of {COPY} from training", "longest run from training, notes"
_SIXTEENTH, _LONGEST_WAIT = 6, 16
# So many low bits of a hash say quickly that it is not looked for.
_SIEVE_BITS = 22
# The odd multiplier of a 64-bit linear congruential generator (Knuth, MMIX) and its inverse modulo 2^64.
_BASE = np.uint64(6364136223846793005)
_INVERSE = np.uint64(pow(6364136223846793005, -1, 1 << 64))

_SIEVE_MASK = np.uint64((1 << _SIEVE_BITS) - 1)

Hashes = npt.NDArray[np.uint64]


@dataclass(slots=True)
class CopyFinder:
    """Fills to be looked for. Add them all, read the training music once, then ask of each."""

    _pending: dict[int, list[Hashes]] = field(default_factory=lambda: {length: [] for length in LENGTHS})
    _wanted: dict[int, Hashes] = field(default_factory=dict)
    _found: dict[int, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def add(self, item: EvaluationItem, fill: Fills) -> None:
        """Look for this fill too."""
        for notes in _lines(item, fill):
            for length, grams in ngrams(notes, LENGTHS).items():
                self._pending[length].append(grams)

    def read(self, training: Iterable[Score]) -> None:
        """Go through the training music once."""
        empty = [np.empty(0, dtype=np.uint64)]
        self._wanted = {length: np.unique(np.concatenate(grams or empty)) for length, grams in self._pending.items()}
        self._found = {length: np.zeros(len(grams), dtype=bool) for length, grams in self._wanted.items()}
        lengths = [length for length, wanted in self._wanted.items() if len(wanted)]
        sieves = {length: _sieve(self._wanted[length]) for length in lengths}
        for score in training:
            for track in score.tracks:
                for length, grams in ngrams(track.notes, lengths).items():
                    likely = grams[sieves[length][grams & _SIEVE_MASK]]
                    wanted = self._wanted[length]
                    at = np.minimum(np.searchsorted(wanted, likely), len(wanted) - 1)
                    self._found[length][at[wanted[at] == likely]] = True

    def measure(self, item: EvaluationItem, fill: Fills) -> dict[str, Ratio]:
        """Return COPIED and LONGEST of a fill that was added; a line of fewer than COPY notes is left out of COPIED."""
        copied = long_enough = longest = 0
        for notes in _lines(item, fill):
            stands = {length: self._stands(grams, length) for length, grams in ngrams(notes, LENGTHS).items()}
            if len(notes) >= COPY:
                is_copied = np.zeros(len(notes), dtype=bool)
                for at in np.flatnonzero(stands[COPY]):
                    is_copied[at : at + COPY] = True
                copied += int(is_copied.sum())
                long_enough += len(notes)
            longest = max([longest, *(length for length, found in stands.items() if found.any())])
        return {COPIED: Ratio(copied, long_enough), LONGEST: Ratio(longest, 1 if any(fill) else 0)}

    def _stands(self, grams: Hashes, length: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = self._found[length][np.searchsorted(self._wanted[length], grams)]
        return found


def ngrams(notes: Sequence[Note], lengths: Iterable[int]) -> dict[int, Hashes]:
    """Return by length a hash of every so many consecutive notes, uint64 [G]: equal for equal intervals and waits.

    Notes are in their order of (onset, pitch), waits in sixteenths. The hash is a polynomial of the steps between
    notes (Karp and Rabin 1987), so that all lengths come from one sum.
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


def _sieve(wanted: Hashes) -> npt.NDArray[np.bool_]:
    sieve = np.zeros(1 << _SIEVE_BITS, dtype=bool)
    sieve[wanted & _SIEVE_MASK] = True
    return sieve


def _mixed(values: Hashes) -> Hashes:
    """Spread small numbers over 64 bits (the finalizer of Steele et al. 2014, SplitMix)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _lines(item: EvaluationItem, fill: Fills) -> list[list[Note]]:
    """Return what each track plays in the gap, in order."""
    lines: dict[int, list[Note]] = {}
    for cell, notes in zip(item.prompt.cells, fill, strict=True):
        lines.setdefault(cell.track, []).extend(notes)
    return [sorted(notes, key=lambda note: (note.onset, note.pitch)) for notes in lines.values()]
