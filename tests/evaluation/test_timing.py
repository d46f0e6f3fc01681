"""Measures of timing finer than the grid, on examples computed by hand (a step is 20.8 ms)."""

import numpy as np
import pytest

from harmonixr_model.evaluation.timing import (
    DEVIATION_BINS,
    deviation,
    deviations,
    exact_f1,
    mean_deviation_difference,
    overlap,
    spread,
)
from harmonixr_model.music.score import Note, Score

SCORE = Score(24 * 24)  # 24 ticks a step


def hit(step, offset=0, pitch=36):
    return Note(24 * step + offset, 3, pitch, 80)


def test_notes_match_one_to_one_up_to_the_tolerance():
    truth = [[hit(0), hit(24)]]
    assert exact_f1(SCORE, truth, [[hit(0, 5), hit(24, 6)]], within_ms=5).value == 0.5  # 4.3 and 5.2 ms late
    assert exact_f1(SCORE, truth, [[hit(0, 5), hit(24, 6)]], within_ms=6).value == 1
    assert exact_f1(SCORE, truth, [[hit(0, pitch=38), hit(24, pitch=38)]], within_ms=100).value == 0
    assert exact_f1(SCORE, [[hit(0)]], [[hit(0), hit(0, 3)]], within_ms=5).value == pytest.approx(2 / 3)


def test_a_deviation_is_the_distance_from_the_nearest_sixteenth():
    assert [deviation(SCORE, hit(step)) for step in (0, 1, 2, 3, 5, 6)] == [0, 1, 2, -3, -1, 0]
    assert deviation(SCORE, hit(7, -12)) == 0.5
    counts = deviations(SCORE, [[hit(0), hit(6)], [hit(5, 12)]])
    assert len(counts) == DEVIATION_BINS
    assert counts[12] == 2  # on the sixteenth
    assert counts[10] == 1  # half a step early
    assert counts.sum() == 3


def test_equally_early_notes_have_no_deviation_difference():
    early, late = [[hit(0, -6), hit(6, -6)]], [[hit(0, 6)]]
    assert mean_deviation_difference(SCORE, early, [[hit(12, -6)]]).value == 0
    assert mean_deviation_difference(SCORE, early, late).value == 0.5
    assert not mean_deviation_difference(SCORE, early, [[]]).whole


def test_spread_is_the_distance_between_notes_of_one_step():
    assert spread(SCORE, [[hit(0, -6), hit(0, 6, pitch=42), hit(24)]]).value == pytest.approx(500 / 48)
    assert not spread(SCORE, [[hit(0), hit(6)]]).whole


def test_equal_histograms_overlap_completely_and_disjoint_ones_do_not():
    one, two = np.array([3, 1, 0, 0]), np.array([0, 0, 2, 2])
    same = overlap([("a", one, 2 * one), ("b", two, two)])
    assert (same.pieces, same.gaps) == (2, 2)
    assert overlap([("a", one, one)]).value == 1
    assert overlap([("a", one, two)]).value == 0
    assert overlap([("a", np.array([1, 1]), np.array([1, 0]))]).value == 0.5
    assert same.low <= same.value <= same.high
