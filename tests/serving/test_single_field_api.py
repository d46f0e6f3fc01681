"""Single-field fills over HTTP: one field of the notes changes, by models trained for it."""

import base64
from collections import Counter

import pytest

from harmonixr_model import examples
from harmonixr_model.music.song import Song
from harmonixr_model.notes.field_tokens import NOTE_FIELDS
from harmonixr_platform.feedback.errors import BadStudy
from harmonixr_platform.feedback.studies.definition import read_study
from harmonixr_platform.registry import Lineage, open_registry
from harmonixr_platform.schemas import ControlSpec
from harmonixr_platform.schemas.base import content_json

MINUET = examples.load("minuet-in-g")
KEPT = {"pitch": (0, 1, 3), "velocity": (0, 1, 2), "duration": (0, 2, 3), "rhythm": (2, 3)}


def request(only, **sampling):
    return {
        "midi_base64": base64.b64encode(MINUET).decode(),
        "region": {"bars": "5-6", "tracks": [1]},
        "controls": {"only": only},
        "sampling": {"seed": 1, **sampling},
    }


@pytest.fixture(scope="module")
def trained(settings, tmp_path_factory):
    """A version trained on single-field fills."""
    import torch

    from harmonixr_model.infill.checkpoint import save_checkpoint
    from harmonixr_model.infill.config import InfillConfig
    from harmonixr_model.infill.model import InfillTransformer

    torch.manual_seed(4)
    path = tmp_path_factory.mktemp("fields") / "fields.safetensors"
    model = InfillTransformer(InfillConfig(width=32, layers=1, heads=2, dropout=0.0, max_length=2048))
    save_checkpoint(path, model, info={"fields": list(NOTE_FIELDS)})
    return open_registry(settings).register("infill", path, Lineage(note="fields")).version


@pytest.mark.parametrize("only", NOTE_FIELDS)
def test_one_field_changes_and_all_else_of_the_song_stays(api, trained, only):
    answer = api("POST", "/v1/infill", json=request(only) | {"model": trained})
    assert answer.status_code == 200, answer.text
    (candidate,) = answer.json()["candidates"]
    before, after = Song.parse(MINUET), Song.parse(base64.b64decode(candidate["midi_base64"]))
    start, end = before.score.bars[4].start, before.score.bars[5].end
    for t, (old, new) in enumerate(zip(before.score.tracks, after.score.tracks, strict=True)):
        inside = [note for note in old.notes if t == 0 and start <= note.onset < end]
        left = Counter(new.notes) - Counter(note for note in old.notes if note not in inside)
        unchanged = Counter(tuple(note[i] for i in KEPT[only]) for note in inside)
        assert unchanged == Counter(tuple(note[i] for i in KEPT[only]) for note in left.elements())
    assert after.score != before.score


def test_a_model_not_trained_for_it_refuses(api):
    answer = api("POST", "/v1/infill", json=request("rhythm"))
    assert answer.status_code == 422
    assert "not trained to change the rhythm" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"controls": {"only": "timbre"}}, "only"),
        ({"controls": {"only": "pitch"}, "sampling": {"n": 1, "best_of": 4}}, "whole fills"),
        ({"controls": {"only": "velocity", "key": "C major"}}, "leave it out"),
    ],
)
def test_contradictory_options_are_refused(api, trained, change, message):
    answer = api("POST", "/v1/infill", json=request("pitch") | {"model": trained} | change)
    assert answer.status_code == 422
    assert message in answer.text


def test_records_stored_before_keep_their_names():
    assert '"only"' not in content_json(ControlSpec())
    assert '"only":"pitch"' in content_json(ControlSpec(only="pitch"))


def test_a_study_needs_whole_fills(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: fields\narms: [{name: one, model: champion}]\ncontrols: {only: pitch}\n")
    with pytest.raises(BadStudy, match="compares whole fills"):
        read_study(path)
