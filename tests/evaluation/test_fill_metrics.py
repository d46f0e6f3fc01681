"""Metrics have the values computed by hand; intervals cover the true value as often as stated."""

import math

import numpy as np
import pytest

from harmonixr_model.evaluation.metrics import (
    Ratio,
    chroma_f1,
    compare,
    entropy_difference,
    estimate,
    groove_similarity,
    note_f1,
    onset_f1,
    pitch_class_entropy,
)
from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import GridCell

CELL = GridCell(0, 0, 96)


def notes(*rows):
    return [Note(onset, 12, pitch, 80) for onset, pitch in rows]


ORIGINAL = {0: notes((0, 60), (24, 62), (48, 64), (72, 65))}


def test_the_original_is_a_perfect_fill():
    measured = compare([CELL], [ORIGINAL[0]], [ORIGINAL[0]])
    assert measured.pop("pitch-class entropy difference").value == 0
    assert {ratio.value for ratio in measured.values()} == {1}


def test_f1_counts_missing_and_superfluous_notes():
    fill = {0: notes((0, 60), (24, 62))}
    assert note_f1(ORIGINAL, fill).value == pytest.approx(2 * 1.0 * 0.5 / 1.5)
    assert note_f1(ORIGINAL, {0: fill[0] + notes((50, 1), (60, 2))}).value == pytest.approx(0.5)
    assert note_f1(ORIGINAL, {}).value == 0


def test_another_step_and_another_track_are_wrong():
    assert note_f1({0: notes((0, 60))}, {0: notes((1, 60))}).value == 0
    assert onset_f1({0: notes((0, 60))}, {1: notes((0, 60))}).value == 0


def test_a_note_is_matched_once():
    assert note_f1({0: notes((0, 60))}, {0: notes((0, 60), (0, 60))}).value == pytest.approx(2 / 3)


def test_chroma_f1_ignores_octaves_and_onset_f1_ignores_pitches():
    octave_up = {0: [note._replace(pitch=note.pitch + 12) for note in ORIGINAL[0]]}
    assert note_f1(ORIGINAL, octave_up).value == 0
    assert chroma_f1(ORIGINAL, octave_up).value == 1
    assert onset_f1(ORIGINAL, octave_up).value == 1


def test_drums_have_no_pitch_classes():
    assert math.isnan(chroma_f1(ORIGINAL, ORIGINAL, drums=[0]).value)
    assert math.isnan(entropy_difference(ORIGINAL, ORIGINAL, drums={0}).value)


def test_pitch_class_entropy_counts_classes_in_bits():
    assert pitch_class_entropy(notes((0, 60), (1, 72))) == 0
    assert pitch_class_entropy(notes((0, 60), (1, 62), (2, 64), (3, 65))) == pytest.approx(2)
    assert pitch_class_entropy([]) is None
    assert entropy_difference(ORIGINAL, {0: notes((0, 60), (9, 61))}, drums=set()).value == pytest.approx(1)


def test_groove_similarity_counts_equal_sixteenths():
    # Of 16 sixteenths, one onset of four is missing and one transposed: 1 + 2 differ.
    fill = notes((0, 60), (24, 62), (54, 64))
    assert groove_similarity([CELL], [ORIGINAL[0]], [fill]).value == pytest.approx(13 / 16)


def test_an_estimate_sums_ratios_and_its_interval_contains_the_sum():
    measured = estimate([("a", Ratio(3, 3)), ("b", Ratio(3, 1))])
    assert measured.value == 1.5
    assert measured.low <= 1.5 <= measured.high
    assert (measured.gaps, measured.pieces) == (2, 2)
    assert math.isnan(estimate([]).value)


def test_pieces_are_resampled_and_not_gaps():
    values = [Ratio(value, 1) for value in [0.0] * 20 + [1.0] * 20]
    separate = estimate([(str(i), ratio) for i, ratio in enumerate(values)])
    together = estimate([(str(i // 10), ratio) for i, ratio in enumerate(values)])
    assert together.high - together.low > 1.5 * (separate.high - separate.low)


def test_intervals_cover_the_true_value_about_as_often_as_stated():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        sample = [(str(i), Ratio(float(value), 1)) for i, value in enumerate(rng.normal(size=40))]
        measured = estimate(sample, seed=trial)
        covered += measured.low <= 0 <= measured.high
    assert 85 <= covered <= 100
