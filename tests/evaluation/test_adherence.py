"""What is asked against what came out: the measures see adherence where there is some, and breaches where one is."""

import math

import numpy as np
import pytest

from harmonixr_model.engine.engine import GeneratedFill, Sampling
from harmonixr_model.evaluation.adherence import (
    Pairs,
    asking,
    chord_adherence,
    chord_share,
    controlled_prompt,
    follows,
    measured,
    moved,
    own_chords,
)
from harmonixr_model.evaluation.constraint_checks import draw_limits, violations
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
def asked(corpus):
    return list(evaluation_items(corpus, split="valid", count=4, shapes=["track-2"]))


class Obedient:
    """An engine that says as many notes a cell as its header asks for, and knows nothing else."""

    def generate(self, prompt, *, seeds, sampling):
        return [self._answer(prompt) for _ in seeds]

    def generate_each(self, jobs, *, sampling):
        return [self._answer(prompt) for prompt, _ in jobs]

    def _answer(self, prompt):
        notes = []
        for cell, header in zip(prompt.cells, prompt.headers, strict=True):
            density = next((density_of(token) for token in header if token in VOCAB.density), 1.0)
            count = round(density * (cell.end - cell.start) / 24)
            notes.append([Note(cell.start + i * (cell.end - cell.start) // count, 1, 60, 80) for i in range(count)])
        return GeneratedFill(tuple(encode_fill(prompt, notes)[0].tolist()), 0.0)


def test_an_engine_that_obeys_correlates_and_one_that_does_not_fails_to(asked):
    pairs = follows(Obedient(), asked, "density", sampling=Sampling())
    assert pairs.spearman > 0.99
    assert all(abs(value - mean) <= 0.25 for value, mean in pairs.means().items())
    assert math.isnan(follows(Obedient(), asked, "velocity", sampling=Sampling()).spearman)


def test_pairs_give_the_rank_correlation_and_the_mean_by_requested_value():
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: Spearman with mean ranks.
    assert Pairs((1, 2, 2, 4), (1, 2, 3, 4)).spearman == pytest.approx(0.9487, abs=1e-4)
    assert math.isnan(Pairs((1, 1), (3, 5)).spearman)
    assert Pairs((1, 1, 2), (3, 5, 8)).means() == {1: 4, 2: 8}


def test_what_is_asked_stands_in_every_header_and_only_there(asked):
    prompt = controlled_prompt(asked[0], AttributeControls(density=2, style="pop"))
    assert all(any(token in VOCAB.density for token in header) for header in prompt.headers)
    assert all(VOCAB.style[0] in header for header in prompt.headers)
    assert not any(token in block for block in (VOCAB.density, VOCAB.style) for token in prompt.prefix.tolist())
    assert asking("velocity", 84).conditioning == {"velocity": 84}


def test_the_hidden_music_stands_in_its_own_chords_and_less_in_foreign_ones(asked):
    pitched = [q for q in asked if not q.context.tracks[q.prompt.cells[0].track].is_drum]
    own = [chord_share(own_chords(q), q.original) for q in pitched]
    foreign = [chord_share(moved(own_chords(q)), q.original) for q in pitched]
    assert np.mean(own) > np.mean(foreign) + 0.2
    shares = chord_adherence(Obedient(), pitched, sampling=Sampling())
    assert shares["own chords, asked"] == shares["own chords, not asked"]


def test_measures_count_over_the_whole_gap(asked):
    item = asked[0]
    steps = sum(cell.end - cell.start for cell in item.prompt.cells)
    assert measured(item, item.original, "density") == item.notes * 24 / steps
    assert measured(item, [()] * len(item.prompt.cells), "velocity") is None


CONTEXT = EncodedScore(Score(24, (Track((Note(0, 96, 40, 64),), channel=0), Track(is_drum=True, channel=9))))
CELL = GridCell(0, 0, 96)


@pytest.mark.parametrize(
    ("limits", "notes", "broken"),
    [
        ({}, [Note(100, 4, 60, 80)], {"region": 1}),
        ({"pitch_min": 61, "pitch_max": 70}, [Note(0, 4, 60, 80), Note(4, 4, 71, 80)], {"pitch range": 2}),
        ({"scale": (0, 2, 4)}, [Note(0, 4, 61, 80), Note(4, 4, 60, 80)], {"scale": 1}),
        ({"velocity_max": 79}, [Note(0, 4, 60, 80)], {"velocity": 1}),
        ({"max_polyphony": 2}, [Note(0, 8, 60, 80), Note(4, 4, 62, 80)], {"polyphony": 1}),
        ({"min_notes_per_bar": 3}, [Note(0, 4, 60, 80)], {"least notes a bar": 1}),
        ({"max_notes_per_bar": 2}, [Note(0, 4, 60, 80), Note(4, 4, 60, 80)], {"most notes a bar": 1}),
        ({"max_notes_per_bar": 3, "min_notes_per_bar": 3}, [Note(0, 4, 60, 80), Note(4, 4, 60, 80)], {}),
    ],
)
def test_every_breach_of_a_limit_is_counted(limits, notes, broken):
    found = violations(CONTEXT, [CELL], [notes], Constraints(**limits), bars=CONTEXT.score.bars_until(96)[:1])
    assert dict(found) == broken


def test_limits_of_chance_are_valid_and_bind_about_half_the_time():
    drawn = [draw_limits(np.random.default_rng(seed)) for seed in range(200)]
    assert 60 < sum(limits.scale is not None for limits in drawn) < 140


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


def test_labels_have_a_part_a_bar():
    bars = Score(24, ()).bars_until(192)
    spans = read_labels("C - | G", bars)
    assert spans == (ChordSpan(0, 48, read_chord("C")), ChordSpan(96, 192, read_chord("G")))
    with pytest.raises(ValueError, match="zip"):
        read_labels("C", bars)
