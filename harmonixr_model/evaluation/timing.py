"""Measures of timing finer than the grid: onset errors in milliseconds, deviations from the nearest sixteenth.

Notes are in ticks of their score; a step is a 24th of a quarter.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harmonixr_model.evaluation.metrics import Estimate, Fills, Ratio, matches
from harmonixr_model.music.score import Note, Score
from harmonixr_model.notes.grid import GRID, to_step

SIXTEENTH = 6  # steps
_BINS_A_STEP = 4  # of the histogram of deviations: 5 ms at 120
DEVIATION_BINS = SIXTEENTH * _BINS_A_STEP


def exact_f1(score: Score, target: Fills, fill: Fills, *, within_ms: float) -> Ratio:
    """Return the F1 of notes that agree in cell, pitch and onset within some milliseconds; see `metrics.note_f1`."""
    found = total = 0
    for truth, made in zip(target, fill, strict=True):
        expected, given = _times(score, truth), _times(score, made)
        found += sum(matches(times, given.get(pitch, []), within=within_ms) for pitch, times in expected.items())
        total += len(truth) + len(made)
    return Ratio(2 * found, total)


def deviation(score: Score, note: Note) -> float:
    """Return how far a note begins from the nearest sixteenth, in steps: -3 up to 3."""
    step = note.onset * GRID / score.ticks_per_quarter
    return (step + SIXTEENTH / 2) % SIXTEENTH - SIXTEENTH / 2


def deviations(score: Score, fill: Fills) -> npt.NDArray[np.int64]:
    """Count the notes of a fill by their deviation, int64 [DEVIATION_BINS], quarters of a step from -3 on."""
    bins = [int((deviation(score, note) + SIXTEENTH / 2) * _BINS_A_STEP) for notes in fill for note in notes]
    return np.bincount(np.array(bins, dtype=np.int64), minlength=DEVIATION_BINS)


def mean_deviation_difference(score: Score, target: Fills, fill: Fills) -> Ratio:
    """Return the difference of the mean deviations of target and fill, in steps; silence is left out."""
    one, two = ([deviation(score, note) for notes in side for note in notes] for side in (target, fill))
    return Ratio(abs(float(np.mean(one)) - float(np.mean(two))), 1) if one and two else Ratio()


def spread(score: Score, fill: Fills) -> Ratio:
    """Return the mean milliseconds between neighbouring onsets that round to the same step of a cell."""
    distances: list[float] = []
    for notes in fill:
        steps: dict[int, list[float]] = defaultdict(list)
        for note in notes:
            steps[to_step(note.onset, score.ticks_per_quarter)].append(1000 * score.seconds(note.onset))
        distances += [two - one for times in steps.values() for one, two in pairwise(sorted(times))]
    return Ratio(sum(distances), len(distances))


def overlap(
    counted: Sequence[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.int64]]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return the share that two histograms, summed over gaps, have in common, with a bootstrap over pieces (95 %).

    `counted` are (piece_id, one side's counts, the other's); 1 is the same distribution (Pastore and Calcagnì 2019).
    """
    pieces: dict[str, npt.NDArray[np.int64]] = {}
    for piece, one, two in counted:
        pieces[piece] = pieces.get(piece, np.zeros((2, len(one)), dtype=np.int64)) + np.stack([one, two])
    if not pieces:
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    counts = np.stack(list(pieces.values()))
    drawn = np.random.default_rng(seed).integers(len(counts), size=(resamples, len(counts)))
    totals = np.concatenate([counts.sum(axis=0)[None], counts[drawn].sum(axis=1)]).astype(float)
    shares = totals / np.maximum(totals.sum(axis=-1, keepdims=True), 1)
    value, *boot = shares.min(axis=1).sum(axis=-1)
    low, high = np.quantile(boot, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), len(counted), len(pieces))


def _times(score: Score, notes: Iterable[Note]) -> dict[int, list[float]]:
    times: dict[int, list[float]] = defaultdict(list)
    for note in notes:
        times[note.pitch].append(1000 * score.seconds(note.onset))
    return {pitch: sorted(found) for pitch, found in times.items()}
