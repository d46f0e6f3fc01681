"""Measures of timing finer than the grid: onset errors in milliseconds, deviations from the nearest sixteenth.

Notes are in ticks of their score; a step is a 24th of a quarter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harmonixr_model.evaluation.metrics import Array, Estimate, Fills, Ratio, bootstrap, f1
from harmonixr_model.music.score import Note, Score
from harmonixr_model.notes.grid import GRID, to_step

SIXTEENTH = 6  # steps
_BINS_PER_STEP = 4  # of the histogram of deviations: 5 ms at 120
DEVIATION_BINS = SIXTEENTH * _BINS_PER_STEP


def exact_f1(score: Score, original: Fills, fill: Fills, *, within_ms: float) -> Ratio:
    """Return the F1 of notes that agree in cell and pitch, and in onset up to `within_ms`; see `metrics.note_f1`."""
    one, two = (
        [((cell, n.pitch), 1000 * score.seconds(n.onset)) for cell, notes in enumerate(side) for n in notes]
        for side in (original, fill)
    )
    return f1(one, two, within=within_ms)


def deviation(score: Score, note: Note) -> float:
    """Return the distance of a note's onset from the nearest sixteenth, in steps: at least -3, less than 3."""
    step = note.onset * GRID / score.ticks_per_quarter
    return (step + SIXTEENTH / 2) % SIXTEENTH - SIXTEENTH / 2


def deviations(score: Score, fill: Fills) -> npt.NDArray[np.int64]:
    """Count the notes of a fill by their deviation, int64 [DEVIATION_BINS], quarters of a step from -3 on."""
    bins = [int((deviation(score, note) + SIXTEENTH / 2) * _BINS_PER_STEP) for notes in fill for note in notes]
    return np.bincount(np.array(bins, dtype=np.int64), minlength=DEVIATION_BINS)


def mean_deviation_difference(score: Score, original: Fills, fill: Fills) -> Ratio:
    """Return the difference of the mean deviations of original and fill, in steps; silent gaps are left out."""
    one, two = ([deviation(score, note) for notes in side for note in notes] for side in (original, fill))
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


def overlap(counted: Sequence[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.int64]]]) -> Estimate:
    """Return the overlap of two histograms that are summed over gaps, with a bootstrap over pieces (95 %).

    `counted` has (piece_id, counts of one side, counts of the other); equal distributions have overlap 1 (Pastore and
    Calcagnì 2019).
    """

    def common_share(sums_R2B: Array) -> Array:
        shares_R2B = sums_R2B / np.maximum(sums_R2B.sum(axis=-1, keepdims=True), 1)
        common_R: Array = shares_R2B.min(axis=1).sum(axis=-1)
        return common_R

    return bootstrap([(piece, np.stack(sides)) for piece, *sides in counted], common_share)
