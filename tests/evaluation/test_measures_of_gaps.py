"""Measures beyond agreement: bits by field and with the grammar, boundaries, roles, and the preserved context."""

import math
from dataclasses import replace

import pytest
import torch

from harmonixr_model.evaluation.boundaries import LEAP, LEAP_DIFFERENCE, WAIT, WAIT_DIFFERENCE, boundary_measures
from harmonixr_model.evaluation.breakdown import groups_of, role_of
from harmonixr_model.evaluation.gap_shapes import SHAPES, Gap
from harmonixr_model.evaluation.likelihood import (
    BITS,
    FIELDS,
    WITH_GRAMMAR,
    allowed_tokens,
    bits_by_field,
    measured_bits,
)
from harmonixr_model.evaluation.metrics import diversity
from harmonixr_model.evaluation.protocol import evaluation_items, make_item
from harmonixr_model.evaluation.validity import PLACED, PRESERVED, VALID, validity_measures
from harmonixr_model.infill.config import sized
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.vocabulary import VOCAB

MELODY = tuple(Note(24 * beat, 24, 60 + beat, 82) for beat in range(12))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return InfillTransformer(sized("nano", width=32, layers=1, heads=2, max_length=1024)).eval()


@pytest.fixture(scope="module")
def items(corpus):
    return list(evaluation_items(corpus, split="valid", count=len(SHAPES)))


@pytest.fixture
def item():
    """The second of three bars of a rising melody is hidden."""
    made = make_item(
        EncodedScore(Score(24, (Track(MELODY),))), Gap((GridCell(0, 96, 192),)), shape="x", piece_id="p", number=0
    )
    assert made is not None
    return made


def test_bits_by_field_sum_to_the_whole_with_and_without_the_grammar(model, items):
    for item in items[:4]:
        bits = measured_bits(model, item)
        for total in (BITS, WITH_GRAMMAR):
            assert sum(bits[f"{total}, {field}"] for field in FIELDS) == pytest.approx(bits[total])
        assert bits[WITH_GRAMMAR] < bits[BITS]  # forbidden tokens have no probability


def test_a_uniform_model_gives_the_bits_of_the_tokens_that_the_grammar_allows(model, item):
    torch.nn.init.zeros_(model.embedding.token.weight)
    allowed = allowed_tokens(item)
    expected = sum(math.log2(int(row.sum())) for row in allowed)
    assert measured_bits(model, item)[WITH_GRAMMAR] == pytest.approx(expected, rel=1e-4)


def test_the_end_of_a_cell_counts_with_onsets():
    tokens = [VOCAB.id(name) for name in ("POS_0", "PITCH_60", "DUR_24", "VEL_82", "END")]
    bits = bits_by_field(tokens, [1, 2, 4, 8, 16])
    assert [bits[f"{BITS}, {field}"] for field in FIELDS] == [17, 2, 4, 8]
    assert bits[BITS] == 31


def test_a_fill_that_violates_the_grammar_has_no_bits_with_it(model, item):
    broken = item.fill.copy()
    duration = next(i for i, token in enumerate(broken) if token in VOCAB.duration)
    broken[duration + 1 : duration + 2] = VOCAB.pitch[0]  # a pitch where the first velocity belongs
    measured = measured_bits(model, replace(item, fill=broken))
    assert BITS in measured
    assert WITH_GRAMMAR not in measured


def test_the_original_is_valid_and_preserves_the_context(items):
    for item in items:
        assert {name: ratio.value for name, ratio in validity_measures(item, item.original).items()} == {
            VALID: 1,
            PRESERVED: 1,
            PLACED: 1,
        }


def test_a_doubled_note_is_not_valid_and_is_not_placed(item):
    doubled = Note(96, 24, 64, 82)
    measured = validity_measures(item, [(doubled, doubled)])
    assert measured[VALID].value == 0
    assert measured[PLACED].value == 0.5
    assert measured[PRESERVED].value == 1


def test_boundaries_are_the_steps_into_the_gap_and_out_of_it(item):
    assert {name: ratio.value for name, ratio in boundary_measures(item, item.original).items()} == {
        LEAP: 1,
        WAIT: 1,
        LEAP_DIFFERENCE: 0,
        WAIT_DIFFERENCE: 0,
    }
    # From 63 down to 56 after a beat and a half, out from 80 to 68 after half a beat.
    measured = boundary_measures(item, [(Note(108, 12, 50, 82), Note(108, 12, 56, 82), Note(180, 12, 80, 82))])
    assert measured[LEAP].value == (7 + 12) / 2
    assert measured[WAIT].value == (1.5 + 0.5) / 2
    assert measured[LEAP_DIFFERENCE].value == (6 + 11) / 2
    assert measured[WAIT_DIFFERENCE].value == 0.5
    assert boundary_measures(item, [()])[LEAP].whole == 0  # silence has no boundaries


def test_diversity_is_the_disagreement_of_fills():
    cells, one, other = [GridCell(0, 0, 96)], [[MELODY[0], MELODY[1]]], [[MELODY[0]]]
    assert diversity(cells, [one, one]).value == 0
    assert diversity(cells, [one, [()]]).value == 1
    assert diversity(cells, [one, one, other]).value == pytest.approx((0 + 1 / 3 + 1 / 3) / 3)
    assert diversity(cells, [[()], [()]]).value == 0


def test_roles_of_tracks():
    chord = tuple(Note(0, 24, pitch, 80) for pitch in (60, 64, 67))
    assert role_of(Track(MELODY, is_drum=True)) == "drums"
    assert role_of(Track(MELODY, program=33)) == role_of(Track(MELODY, name="E-Bass")) == "bass"
    assert role_of(Track(chord)) == "chords"
    assert role_of(Track(MELODY)) == "line"


def test_the_groups_of_an_item_are_shape_repetition_source_and_role(item):
    band = Score(24, tuple(Track(MELODY, channel=channel) for channel in range(4)))
    inside = make_item(
        EncodedScore(band), Gap((GridCell(2, 96, 192),)), shape="s", piece_id="p", number=0, source="here"
    )
    assert groups_of(inside) == ["all shapes", "novel", "s", "source: here", "role: line of a band"]
    assert groups_of(item) == ["all shapes", "novel", "x", "role: line"]
