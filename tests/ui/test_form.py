"""What the controls say becomes a request, or one sentence that says what would work."""

import base64

import pytest

from harmonixr_model import examples
from harmonixr_platform.schemas import ControlSpec
from harmonixr_ui.form import KEYS, Form, FormError, default_gap, infill_request, track_label

MIDI = base64.b64encode(examples.load("minuet-in-g")).decode()


def test_bars_tracks_and_limits_arrive_in_the_request():
    form = Form(5, 8, [2, 1], n=3, temperature=0.7, seed=" 11 ", key="F# minor", pitch_min="40", max_notes_per_bar="12")
    request = infill_request(form, MIDI)
    assert (request.region.bars, request.region.tracks) == ("5-8", [1, 2])
    assert (request.sampling.n, request.sampling.temperature, request.sampling.seed) == (3, 0.7, 11)
    assert (request.controls.key, request.controls.pitch_min, request.controls.max_notes_per_bar) == (
        "F# minor",
        40,
        12,
    )


def test_what_the_model_leans_towards_arrives_in_the_request():
    request = infill_request(Form(5, 8, [1], density=" 1.5 ", chords="C | Am F"), MIDI)
    assert (request.controls.density, request.controls.chords) == (1.5, "C | Am F")
    with pytest.raises(FormError, match="neither"):
        infill_request(Form(5, 8, [1], density="many"), MIDI)


def test_what_may_change_and_how_far_the_song_is_repeated_arrive_in_the_request():
    request = infill_request(Form(5, 8, [1], only="velocity", copy_strength=0.4), MIDI)
    assert (request.controls.only, request.sampling.copy_strength) == ("velocity", 0.4)
    assert infill_request(Form(5, 8, [1], copy_strength=0), MIDI).sampling.copy_strength == 0


def test_empty_fields_ask_for_nothing():
    request = infill_request(Form(5, 8, [1]), MIDI)
    assert request.sampling.seed is None
    assert request.sampling.copy_strength is None
    assert request.controls == ControlSpec()


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        (Form(None, 8, [1]), "Say which bars"),
        (Form(8, 5, [1]), r"first bar \(8\) comes after the last \(5\)"),
        (Form(5, 8, []), "at least one track"),
        (Form(5, 8, [1], seed="soon"), "Seed: 'soon' is not a whole number"),
        (Form(5, 8, [1], pitch_max="200"), "Pitch max: input should be less than or equal to 127"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_one_sentence(form, sentence):
    with pytest.raises(FormError, match=sentence):
        infill_request(form, MIDI)


def test_every_key_offered_is_spelt_with_its_mode():
    assert len(KEYS) == 24
    assert all(key.split()[1] in ("major", "minor") for key in KEYS)


def test_the_gap_marked_at_first_lies_in_the_song(service):
    for name in examples.names():
        song = service.inspect({"midi_base64": base64.b64encode(examples.load(name)).decode()})
        from harmonixr_platform.schemas import InspectResponse

        read = InspectResponse.model_validate(song)
        assert default_gap(read) == (5, 8)
        assert track_label(read.tracks[0]).startswith("1 · ")
        short = read.model_copy(update={"bars": read.bars[:3]})
        assert default_gap(short) == (1, 1)
