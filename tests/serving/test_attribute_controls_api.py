"""Attribute controls over HTTP: they reach the prompt, or the model was not trained on them and refuses."""

import base64

import pytest

from harmonixr_model import examples
from harmonixr_model.music.song import Song
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.controls import TRAINED
from harmonixr_platform.registry import Lineage, open_registry
from harmonixr_platform.schemas import ControlSpec, InfillOptions, RegionSpec
from harmonixr_platform.schemas.base import content_json
from harmonixr_platform.serving.infill.session_cache import open_session

MINUET = examples.load("minuet-in-g")


def request(**controls):
    return {
        "midi_base64": base64.b64encode(MINUET).decode(),
        "region": {"bars": "5-6", "tracks": [1]},
        "controls": controls,
        "sampling": {"seed": 1},
    }


@pytest.fixture(scope="module")
def trained(settings, tmp_path_factory):
    """A version trained on every control and one style."""
    import torch

    from harmonixr_model.infill.checkpoint import save_checkpoint
    from harmonixr_model.infill.config import InfillConfig
    from harmonixr_model.infill.model import InfillTransformer

    torch.manual_seed(9)
    path = tmp_path_factory.mktemp("trained") / "trained.safetensors"
    model = InfillTransformer(InfillConfig(width=32, layers=1, heads=2, dropout=0.0, max_length=2048))
    save_checkpoint(path, model, info={"controls": list(TRAINED), "data": {"styles": {"pop": 3}, "composers": {}}})
    return open_registry(settings).register("infill", path, Lineage(note="trained")).version


@pytest.mark.parametrize("controls", [{"density": 2}, {"chords": "G"}, {"style": "pop"}, {"key_hint": "G major"}])
def test_a_model_trained_on_no_control_refuses_it(api, controls):
    answer = api("POST", "/v1/infill", json=request(**controls))
    assert answer.status_code == 422
    assert "not trained to follow" in answer.json()["detail"]


def test_a_trained_model_fills_and_keeps_chord_tones(api, trained):
    body = request(density=2, velocity=70, chords="G | D", chord_tones_only=True, style="pop", key_hint="G major")
    answer = api("POST", "/v1/infill", json=body | {"model": trained})
    assert answer.status_code == 200, answer.text
    (candidate,) = answer.json()["candidates"]
    sixth = Song.parse(MINUET).score.bars[5].start
    for note in candidate["notes"]:
        assert note["pitch"] % 12 in ({2, 6, 9} if note["onset_tick"] >= sixth else {7, 11, 2})
    unknown = api("POST", "/v1/infill", json=request(style="jazz") | {"model": trained})
    assert unknown.status_code == 422
    assert "it knows pop" in unknown.json()["detail"]


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"chords": "H"}, "such as 'C'"),
        ({"chord_tones_only": True}, "no chords are given"),
        ({"chords": "C | D | E"}, "the region has 2"),
        ({"style": "polka"}, "choose from pop"),
        ({"density": 99}, "controls.density"),
        ({"loudness": 3}, "controls.loudness"),
    ],
)
def test_a_bad_control_is_a_problem_that_names_the_remedy(api, trained, controls, message):
    answer = api("POST", "/v1/infill", json=request(**controls) | {"model": trained})
    assert answer.status_code == 422
    assert message in answer.text


def test_every_stage_builds_the_same_prompt_from_a_request():
    options = InfillOptions(region=RegionSpec(bars="5"), controls=ControlSpec(density=2, polyphony=1.5, style="pop"))
    prompt = open_session(MINUET, options, max_midi_bytes=10**6, max_length=2048).next_prompt()
    tokens = (VOCAB.style[0], VOCAB.density[7], VOCAB.polyphony[1])
    assert all(header[3:6] == tokens for header in prompt.headers)


def test_a_control_left_out_does_not_change_stored_records():
    plain = '{"key":null,"max_notes_per_bar":null,"max_polyphony":2,"min_notes_per_bar":null,"pitch_max":null'
    plain += ',"pitch_min":null,"velocity_max":null,"velocity_min":null}'
    assert content_json(ControlSpec(max_polyphony=2)) == plain
    assert '"density":2.0' in content_json(ControlSpec(max_polyphony=2, density=2))
