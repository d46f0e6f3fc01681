"""Measures of controls detect adherence, and violations of constraints."""

import math

import numpy as np
import pytest

from harmonixr_model.engine.engine import GeneratedFill, Sampling
from harmonixr_model.evaluation.adherence import (
    Adherence,
    chord_adherence,
    chord_share,
    controlled_prompt,
    measure_adherence,
    measured_control,
    own_chords,
    single_control,
    transposed,
)
from harmonixr_model.evaluation.constraint_checks import sample_constraints, violations
from harmonixr_model.evaluation.harmony import composed_accuracies, estimated_key, hand_labelled, read_labels
from harmonixr_model.evaluation.protocol import evaluation_items
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.estimate import ChordSpan, estimate_chords, estimate_key
from harmonixr_model.music.harmony import Key, read_chord
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.control_values import density_of
from harmonixr_model.prompt.controls import AttributeControls
from harmonixr_model.prompt.fill_tokens import encode_fill


@pytest.fixture(scope="module")
def items(corpus):
    return list(evaluation_items(corpus, split="valid", count=4, shapes=["track-2"]))


class DensityEngine:
    """An engine that fills each cell with the number of notes that its density token requests."""

    def generate(self, prompt, *, seeds, sampling):
        return [self._fill(prompt) for _ in seeds]

    def generate_each(self, jobs, *, sampling):
        return [self._fill(prompt) for prompt, _ in jobs]

    def _fill(self, prompt):
        notes = []
        for cell, header in zip(prompt.cells, prompt.headers, strict=True):
            density = next((density_of(token) for token in header if token in VOCAB.density), 1.0)
            count = round(density * (cell.end - cell.start) / 24)
            notes.append([Note(cell.start + i * (cell.end - cell.start) // count, 1, 60, 80) for i in range(count)])
        return GeneratedFill(tuple(encode_fill(prompt, notes)[0].tolist()), 0.0)


def test_requested_and_measured_values_correlate_only_where_the_engine_follows(items):
    adherence = measure_adherence(DensityEngine(), items, "density", sampling=Sampling())
    assert adherence.spearman > 0.99
    assert all(abs(value - mean) <= 0.25 for value, mean in adherence.means().items())
    assert math.isnan(measure_adherence(DensityEngine(), items, "velocity", sampling=Sampling()).spearman)


def test_adherence_gives_the_rank_correlation_and_the_mean_by_requested_value():
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: Spearman with mean ranks.
    assert Adherence((1, 2, 2, 4), (1, 2, 3, 4)).spearman == pytest.approx(0.9487, abs=1e-4)
    assert math.isnan(Adherence((1, 1), (3, 5)).spearman)
    assert Adherence((1, 1, 2), (3, 5, 8)).means() == {1: 4, 2: 8}


def test_control_tokens_occur_in_every_header_and_nowhere_else(items):
    prompt = controlled_prompt(items[0], AttributeControls(density=2, style="pop"))
    assert all(any(token in VOCAB.density for token in header) for header in prompt.headers)
    assert all(VOCAB.style[0] in header for header in prompt.headers)
    assert not any(token in block for block in (VOCAB.density, VOCAB.style) for token in prompt.prefix.tolist())
    assert single_control("velocity", 84).conditioning == {"velocity": 84}


def test_the_original_has_more_tones_of_its_own_chords_than_of_foreign_ones(items):
    pitched = [item for item in items if item.prompt.cells[0].track not in item.drums]
    own = [chord_share(own_chords(item), item.original) for item in pitched]
    foreign = [chord_share(transposed(own_chords(item)), item.original) for item in pitched]
    assert np.mean(own) > np.mean(foreign) + 0.2
    shares = chord_adherence(DensityEngine(), pitched, sampling=Sampling())
    assert shares["own chords, requested"] == shares["own chords, not requested"]


def test_attributes_are_measured_over_the_whole_gap(items):
    item = items[0]
    steps = sum(cell.end - cell.start for cell in item.prompt.cells)
    assert measured_control(item, item.original, "density") == item.notes * 24 / steps
    assert measured_control(item, [()] * len(item.prompt.cells), "velocity") is None


CONTEXT = EncodedScore(Score(24, (Track((Note(0, 96, 40, 64),), channel=0), Track(is_drum=True, channel=9))))
CELL = GridCell(0, 0, 96)


@pytest.mark.parametrize(
    ("constraints", "notes", "violated"),
    [
        ({}, [Note(100, 4, 60, 80)], {"region": 1}),
        ({"pitch_min": 61, "pitch_max": 70}, [Note(0, 4, 60, 80), Note(4, 4, 71, 80)], {"pitch range": 2}),
        ({"scale": (0, 2, 4)}, [Note(0, 4, 61, 80), Note(4, 4, 60, 80)], {"scale": 1}),
        ({"velocity_max": 79}, [Note(0, 4, 60, 80)], {"velocity": 1}),
        ({"max_polyphony": 2}, [Note(0, 8, 60, 80), Note(4, 4, 62, 80)], {"polyphony": 1}),
        ({"min_notes_per_bar": 3}, [Note(0, 4, 60, 80)], {"minimum notes per bar": 1}),
        ({"max_notes_per_bar": 2}, [Note(0, 4, 60, 80), Note(4, 4, 60, 80)], {"maximum notes per bar": 1}),
        ({"max_notes_per_bar": 3, "min_notes_per_bar": 3}, [Note(0, 4, 60, 80), Note(4, 4, 60, 80)], {}),
    ],
)
def test_every_violation_of_a_constraint_is_counted(constraints, notes, violated):
    found = violations(CONTEXT, [CELL], [notes], Constraints(**constraints), bars=CONTEXT.score.bars_until(96)[:1])
    assert dict(found) == violated


def test_sampled_constraints_are_valid_and_use_each_kind_about_half_the_time():
    sampled = [sample_constraints(np.random.default_rng(seed)) for seed in range(200)]
    assert 60 < sum(constraints.scale is not None for constraints in sampled) < 140


def test_keys_and_chords_are_estimated_nearly_as_labelled():
    for name, (score, labels, key) in hand_labelled().items():
        assert estimated_key(score) == key, name
        assert labels
    accuracies, found, sections = composed_accuracies(range(6))
    assert np.mean([one.exact for one in accuracies]) > 0.9
    assert found / sections > 0.8


def test_estimates_of_silence_and_of_one_chord():
    bars = Score(24, ()).bars_until(192)
    assert estimate_key([]) is None
    assert estimate_chords([], bars, ticks_per_quarter=24) == []
    notes = [Note(0, 96, pitch, 80) for pitch in (45, 60, 64)]
    assert estimate_chords(notes, bars, ticks_per_quarter=24) == [ChordSpan(0, 192, read_chord("Am"))]
    scale = [Note(24 * i, 24, pitch, 80) for i, pitch in enumerate((62, 64, 66, 67, 69, 71, 73, 74))]
    assert estimate_key(scale) == Key(2, "major")


def test_labels_have_one_part_per_bar():
    bars = Score(24, ()).bars_until(192)
    spans = read_labels("C - | G", bars)
    assert spans == (ChordSpan(0, 48, read_chord("C")), ChordSpan(96, 192, read_chord("G")))
    with pytest.raises(ValueError, match="zip"):
        read_labels("C", bars)
