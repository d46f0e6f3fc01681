"""Attribute controls: their tokens, their measures, and the values that are refused."""

from dataclasses import replace
from itertools import pairwise

import pytest

from harmonixr_model.errors import ControlError
from harmonixr_model.music.estimate import ChordSpan
from harmonixr_model.music.harmony import QUALITIES, Key, chord_named, quality_of, read_chord, read_key
from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import GridCell
from harmonixr_model.notes.vocabulary import CHORD_QUALITIES, COMPOSERS, PITCH_CLASSES, STYLES, VOCAB
from harmonixr_model.prompt.control_values import (
    chord_token,
    density_of,
    density_token,
    key_token,
    mean_velocity_of,
    mean_velocity_token,
    measure_density,
    measure_polyphony,
    measure_velocity,
    polyphony_of,
    polyphony_token,
)
from harmonixr_model.prompt.controls import (
    TRAINED,
    AttributeControls,
    attribute_tokens,
    check_supported,
)
from harmonixr_model.prompt.coordinates import CONTROL_BLOCKS, NO_CONTROLS, CoordinateState, coordinates_of_tokens

CELL = GridCell(0, 96, 192)


@pytest.mark.parametrize(
    ("block", "token_of", "value_of"),
    [
        (VOCAB.density, density_token, density_of),
        (VOCAB.polyphony, polyphony_token, polyphony_of),
        (VOCAB.velocity_range, mean_velocity_token, mean_velocity_of),
    ],
)
def test_bins_are_ordered_and_round_trip(block, token_of, value_of):
    assert [token_of(value_of(token)) for token in block] == list(block)
    values = [value_of(token) for token in block]
    assert all(one < two for one, two in pairwise(values))
    assert token_of(values[-1] * 100) == block.stop - 1


def test_measured_and_requested_values_have_the_same_tokens():
    notes = [Note(96, 48, 60, 80), Note(96, 24, 64, 90), Note(144, 96, 67, 100)]
    # Two notes over one quarter, one over the next, one over the last two; sound past the cell is not counted.
    found = {name: control.measure(notes, CELL) for name, control in TRAINED.items() if control.measure}
    assert found == {"density": 0.75, "polyphony": 1.25, "velocity": 90}
    AttributeControls(**found)  # every measured value can be requested
    assert [VOCAB.name(token) for token in attribute_tokens(found, CELL)] == ["DENSITY_3", "POLYPHONY_1", "VELRANGE_11"]


def test_an_empty_cell_has_a_density_and_no_other_measure():
    measures = (measure_density, measure_polyphony, measure_velocity)
    assert [measure([], CELL) for measure in measures] == [0, None, None]


def test_chords_are_encoded_where_they_change_within_the_cell():
    chords = [
        ChordSpan(0, 96, read_chord("G7")),
        ChordSpan(96, 144, read_chord("C")),
        ChordSpan(144, 160, read_chord("C")),
        ChordSpan(160, 300, read_chord("Am")),
    ]
    names = [VOCAB.name(token) for token in attribute_tokens({}, CELL, chords=chords, bar_start=96)]
    assert names == ["CHORD_C_maj", "POS_64", "CHORD_A_min"]
    part = [VOCAB.name(token) for token in attribute_tokens({}, replace(CELL, start=150), chords=chords, bar_start=96)]
    assert part == ["CHORD_C_maj", "POS_64", "CHORD_A_min"]


def test_chords_and_keys_have_the_tokens_that_name_them():
    assert tuple(QUALITIES) == CHORD_QUALITIES
    for root, name in enumerate(PITCH_CLASSES):
        for quality in QUALITIES:
            chord = chord_named(root, quality)
            assert VOCAB.name(chord_token(chord)) == f"CHORD_{name}_{quality}"
            assert quality_of(chord) == quality
        for mode in ("major", "minor"):
            assert VOCAB.name(key_token(Key(root, mode))) == f"KEY_{name}_{mode}"


def test_key_style_and_composer_are_tokens_of_the_request():
    controls = AttributeControls(key_hint=read_key("Bb minor"), style=STYLES[0], composer=COMPOSERS[1])
    assert [VOCAB.name(token) for token in attribute_tokens(controls.conditioning, CELL)] == [
        "KEY_Bb_minor",
        "STYLE_0",
        "COMPOSER_1",
    ]
    assert list(controls.conditioning) == ["key", "style", "composer"]
    assert attribute_tokens({}, CELL) == ()


def test_tags_have_tokens():
    assert len(set(STYLES)) == len(STYLES) <= VOCAB.style.size
    assert len(set(COMPOSERS)) == len(COMPOSERS) <= VOCAB.composer.size


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"density": -1}, "density of -1"),
        ({"polyphony": 0.5}, "give 1 to"),
        ({"velocity": 200}, "velocity of 200"),
        ({"style": "polka"}, "choose from pop"),
        ({"composer": "Nobody"}, "choose from Schumann"),
        ({"chords": ((),)}, "bar of the chords is empty"),
    ],
)
def test_a_value_without_a_token_is_refused(given, complaint):
    with pytest.raises(ControlError, match=complaint):
        AttributeControls(**given)


@pytest.mark.parametrize("text", ["H", "Cmaj13", "C/E", ""])
def test_a_chord_that_cannot_be_read_is_refused(text):
    with pytest.raises(ControlError, match="such as"):
        read_chord(text)


@pytest.mark.parametrize(
    ("text", "name"), [("Am", "A_min"), ("F#m7", "Gb_min7"), ("Bbmaj7", "Bb_maj7"), ("g", "G_maj")]
)
def test_chords_are_read_as_people_write_them(text, name):
    assert VOCAB.name(chord_token(read_chord(text))) == f"CHORD_{name}"


def test_a_model_refuses_a_control_that_it_was_not_trained_on():
    controls = AttributeControls(density=2, style="pop")
    with pytest.raises(ControlError, match="constraints only"):
        check_supported(controls, {})
    with pytest.raises(ControlError, match="not trained to follow style"):
        check_supported(controls, {"controls": ["density"]})
    with pytest.raises(ControlError, match="it knows jazz"):
        check_supported(controls, {"controls": list(TRAINED), "data": {"styles": {"jazz": 3}}})
    check_supported(controls, {"controls": list(TRAINED), "data": {"styles": {"pop": 3}}})
    check_supported(AttributeControls(), {})


def values(block, token):
    """Return a token's value among those of all controls: blocks are counted through, from 1."""
    return 1 + sum(b.size for b in CONTROL_BLOCKS[: CONTROL_BLOCKS.index(block)]) + block.index(token)


def test_every_token_of_a_cell_has_its_controls_and_chords_change_in_place():
    steps = {"POS_0": 0, "POS_24": 1, "POS_48": 2, "POS_60": 3}
    first, second = VOCAB.id("CHORD_C_maj"), VOCAB.id("CHORD_A_min")
    head = ["FILL", "BARIDX_0", "TRACK_0", "DENSITY_7", "CHORD_C_maj", "POS_48", "CHORD_A_min"]
    answer = [name for at in steps for name in (at, "PITCH_60", "DUR_12", "VEL_10")]
    again = ["END", "FILL", "BARIDX_1", "TRACK_0", "POS_48", "PITCH_60"]
    ids = [VOCAB.id(name) for name in (*head, *answer, *again)]
    controls = coordinates_of_tokens(ids, gap_bar=0)[:, 4:]
    state = CoordinateState(0)
    assert controls.tolist() == [list(state.advance(token)[-1]) for token in ids]
    assert (controls[:3] == NO_CONTROLS).all()
    assert (controls[-5:] == NO_CONTROLS).all()
    inside = controls[len(head) : -6]
    assert (inside[:, 0] == values(VOCAB.density, VOCAB.id("DENSITY_7"))).all()
    assert (inside[:8, 3] == values(VOCAB.chord, first)).all()
    assert (inside[8:, 3] == values(VOCAB.chord, second)).all()
    assert (inside[:, [1, 2, 4, 5, 6]] == 0).all()
