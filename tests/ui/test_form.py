"""The values of the form become a request, or one sentence that names the remedy."""

import base64

import pytest

from harmonixr_model import examples
from harmonixr_platform.schemas import ControlSpec
from harmonixr_ui.form import PAGE_CONTROLS, Form, FormError, default_gap, infill_request, track_label

MIDI = base64.b64encode(examples.load("minuet-in-g")).decode()


def test_bars_tracks_and_limits_arrive_in_the_request():
    controls = {"key": "F# minor", "pitch_min": "40", "max_notes_per_bar": "12"}
    form = Form(5, 8, [2, 1], n=3, temperature=0.7, seed=" 11 ", controls=controls)
    request = infill_request(form, MIDI)
    assert (request.region.bars, request.region.tracks) == ("5-8", [1, 2])
    assert (request.sampling.n, request.sampling.temperature, request.sampling.seed) == (3, 0.7, 11)
    assert (request.controls.key, request.controls.pitch_min, request.controls.max_notes_per_bar) == (
        "F# minor",
        40,
        12,
    )


def test_density_and_chords_are_enforced():
    request = infill_request(Form(5, 8, [1], controls={"density": " 1.5 ", "chords": "C | Am F"}), MIDI)
    assert (request.controls.density, request.controls.chords) == (1.5, "C | Am F")
    assert request.controls.enforce
    assert request.controls.chord_tones_only
    with pytest.raises(FormError, match="neither"):
        infill_request(Form(5, 8, [1], controls={"density": "many"}), MIDI)


def test_changed_field_and_copy_strength_arrive_in_the_request():
    request = infill_request(Form(5, 8, [1], only="velocity", copy_strength=0.4), MIDI)
    assert (request.controls.only, request.sampling.copy_strength) == ("velocity", 0.4)
    assert infill_request(Form(5, 8, [1], copy_strength=0), MIDI).sampling.copy_strength == 0


def test_empty_fields_are_left_out():
    request = infill_request(Form(5, 8, [1]), MIDI)
    assert request.sampling.seed is None
    assert request.sampling.copy_strength is None
    assert request.controls == ControlSpec()


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        (Form(None, 8, [1]), "Give the bars to fill"),
        (Form(8, 5, [1]), r"first bar \(8\) comes after the last \(5\)"),
        (Form(5, 8, []), "at least one track"),
        (Form(5, 8, [1], seed="soon"), "Seed: 'soon' is not a whole number"),
        (Form(5, 8, [1], controls={"pitch_max": "200"}), "Pitch max: input should be less than or equal to 127"),
    ],
)
def test_a_bad_form_gives_one_sentence(form, sentence):
    with pytest.raises(FormError, match=sentence):
        infill_request(form, MIDI)


def test_every_offered_key_has_its_mode():
    (keys,) = (control.choices for control in PAGE_CONTROLS if control.name == "key")
    assert len(keys) == 24
    assert all(key.split()[1] in ("major", "minor") for key in keys)


def test_the_first_gap_is_inside_the_song(service):
    for name in examples.names():
        song = service.inspect({"midi_base64": base64.b64encode(examples.load(name)).decode()})
        from harmonixr_platform.schemas import InspectResponse

        read = InspectResponse.model_validate(song)
        assert default_gap(read) == (5, 8)
        assert track_label(read.tracks[0]).startswith("1 · ")
        short = read.model_copy(update={"bars": read.bars[:3]})
        assert default_gap(short) == (1, 1)
