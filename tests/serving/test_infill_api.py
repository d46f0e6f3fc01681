"""Filling a gap over HTTP, on the real stages and a tiny model."""

import base64
import json

import pytest

from harmonixr_model import examples
from harmonixr_model.music.song import Song
from harmonixr_platform.serving.arguments import ServingArgs

MINUET = examples.load("minuet-in-g")
BASE64 = base64.b64encode(MINUET).decode()


def request(**changes):
    return {"midi_base64": BASE64, "region": {"bars": "5-6", "tracks": [1]}, "sampling": {"seed": 7}} | changes


def problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["detail"]
    assert "Traceback" not in response.text
    return body


def test_a_fill_changes_the_gap_and_nothing_else(api):
    answer = api("POST", "/v1/infill", json=request(sampling={"seed": 7, "n": 2})).json()
    before = Song.parse(MINUET).score
    start, end = before.bars[4].start, before.bars[5].end
    assert len(answer["candidates"]) == 2
    for candidate in answer["candidates"]:
        after = Song.parse(base64.b64decode(candidate["midi_base64"])).score
        assert after.tracks[1] == before.tracks[1]
        outside = [n for n in before.tracks[0].notes if not start <= n.onset < end]
        assert [n for n in after.tracks[0].notes if not start <= n.onset < end] == outside
        inside = [n for n in after.tracks[0].notes if start <= n.onset < end]
        drawn = [(n["onset_tick"], n["pitch"], n["duration_ticks"]) for n in candidate["notes"]]
        assert sorted((n.onset, n.pitch, n.duration) for n in inside) == sorted(drawn)
        assert all(n["track"] == 1 for n in candidate["notes"])
    assert answer["model_version"]
    assert answer["seed"] == 7
    assert [c["seed"] for c in answer["candidates"]] == [7, 8]


def test_the_fills_equal_those_of_the_library(api, tiny_checkpoints):
    from harmonixr_model.fill.infiller import Infiller
    from harmonixr_model.music.region import Region

    song = Song.parse(MINUET)
    fills = Infiller.load(tiny_checkpoints[0]).fill(song, Region.bars(song.score, 4, 5, [0]), n=2, seed=7)
    answer = api("POST", "/v1/infill", json=request(sampling={"seed": 7, "n": 2})).json()
    assert [base64.b64decode(c["midi_base64"]) for c in answer["candidates"]] == [fill.midi for fill in fills]


@pytest.mark.parametrize("compiled", [False, True], ids=["fp32", "bf16"])
def test_stored_tokens_rebuild_a_candidate_sampled_in_any_precision(compiled, make_api, settings, tiny_checkpoints):
    from harmonixr_model.engine.native.library import load_library
    from harmonixr_model.fill.infiller import Infiller
    from harmonixr_model.music.region import Region
    from harmonixr_platform.registry import open_registry
    from harmonixr_platform.serving.stages.loading import load_engine
    from harmonixr_platform.serving.stages.model import Model

    if compiled and load_library(may_compile=True) is None:
        pytest.skip("there is no C++ compiler")
    model = Model(ServingArgs(compiled=compiled), load_engine, registry=open_registry(settings))
    try:
        body = request(region={"bars": "3-12", "tracks": [1, 2]}, sampling={"seed": 3, "n": 2})
        response = make_api(replaced={"Model": model})("POST", "/v1/infill", json=body)
    finally:
        model.stop()
    assert response.headers["X-Harmonixr-Precision"] == response.json()["precision"] == ("bf16" if compiled else "fp32")
    song = Song.parse(MINUET)
    region = Region.bars(song.score, 2, 11, [0, 1])
    infiller = Infiller.load(tiny_checkpoints[0])
    for candidate in response.json()["candidates"]:
        assert infiller.replay(song, region, candidate["tokens"]).midi == base64.b64decode(candidate["midi_base64"])


def test_a_region_of_several_windows_is_filled_as_the_library_fills_it(api, tiny_checkpoints):
    from harmonixr_model.fill.infiller import Infiller
    from harmonixr_model.music.region import Region

    song = Song.parse(MINUET)
    fills = Infiller.load(tiny_checkpoints[0]).fill(song, Region.bars(song.score, 0, 11), n=3, seed=3)
    assert len(fills[0].tokens) > 1
    body = request(region={"bars": "1-12"}, sampling={"seed": 3, "n": 3})
    answer = api("POST", "/v1/infill", json=body).json()
    assert [base64.b64decode(c["midi_base64"]) for c in answer["candidates"]] == [fill.midi for fill in fills]


def test_the_same_seed_gives_the_same_fill_and_another_seed_another(api):
    one, again, other = (
        api("POST", "/v1/infill", json=request(sampling={"seed": s})).json()["candidates"][0] for s in (7, 7, 8)
    )
    assert one["tokens"] == again["tokens"] != other["tokens"]


def test_a_form_can_return_the_midi_file_itself(api):
    response = api(
        "POST",
        "/v1/infill",
        headers={"Accept": "audio/midi"},
        files={"file": ("song.mid", MINUET, "audio/midi")},
        data={"options": json.dumps({"region": {"bars": "5-6", "tracks": [1]}, "sampling": {"seed": 7}})},
    )
    assert response.headers["content-type"] == "audio/midi"
    assert response.headers["x-harmonixr-seed"] == "7"
    assert response.headers["x-harmonixr-model-version"]
    best = api("POST", "/v1/infill", json=request()).json()["candidates"][0]
    assert response.content == base64.b64decode(best["midi_base64"])


def test_the_same_key_gives_the_same_response_without_a_seed_and_refuses_another_request(api):
    body, headers = request(sampling={}), {"Idempotency-Key": "key-1"}
    one, two = api.together(*[("POST", "/v1/infill", {"json": body, "headers": headers})] * 2)
    assert one.json() == two.json()
    other = api("POST", "/v1/infill", json=body, headers={"Idempotency-Key": "key-2"}).json()
    assert other["seed"] != one.json()["seed"]


def test_a_key_cannot_be_used_for_another_request(api):
    headers = {"Idempotency-Key": "key-3"}
    first, second = ({"json": request(region={"bars": bars, "tracks": [1]}), "headers": headers} for bars in ("5", "6"))
    answers = api.together(("POST", "/v1/infill", first), ("POST", "/v1/infill", second))
    assert sorted(a.status_code for a in answers) == [200, 422]
    refused = next(a for a in answers if a.status_code == 422)
    assert "Idempotency-Key" in problem(refused, 422)["detail"]


def test_every_fill_obeys_the_constraints(api):
    body = request(controls={"key": "G major", "pitch_min": 60, "pitch_max": 72}, sampling={"seed": 1, "n": 3})
    for candidate in api("POST", "/v1/infill", json=body).json()["candidates"]:
        assert candidate["notes"]
        for note in candidate["notes"]:
            assert 60 <= note["pitch"] <= 72
            assert note["pitch"] % 12 in {7, 9, 11, 0, 2, 4, 6}


def test_a_fill_can_be_rendered_in_its_context(api):
    candidate = api("POST", "/v1/infill", json=request()).json()["candidates"][0]
    sound = api("GET", candidate["audio_url"])
    assert sound.headers["content-type"] == "audio/wav"
    assert sound.content[:4] == b"RIFF"
    assert len(sound.content) > 100_000


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"midi_base64": base64.b64encode(b"RIFF, no song at all").decode()}, 422, "MIDI"),
        ({"midi_base64": "???"}, 400, "base64"),
        ({"region": {"bars": "90-99"}}, 422, "choose bars within"),
        ({"region": {"bars": "5", "tracks": [9]}}, 422, "there is no track '9'"),
        ({"region": {"bars": "five"}}, 422, "write '9-12'"),
        ({"region": {"bars": "5", "beats": "3"}}, 422, "exactly one of bars"),
        ({"controls": {"pitch_min": 80, "pitch_max": 60}}, 422, "pitch"),
        ({"controls": {"key": "H moll"}}, 422, "G major"),
        ({"model": "0123456789ab"}, 404, "latest versions are"),
        ({"model": "challenger"}, 404, "latest versions are"),
        ({"sampling": {"n": 99}}, 422, "sampling.n"),
        ({"sampling": {"n": 4, "best_of": 2}}, 422, "best_of"),
        ({"sampling": {"best_of": 4}}, 409, "train_reward"),
        ({"colour": "red"}, 422, "colour"),
    ],
)
def test_an_impossible_request_gets_one_sentence(api, change, status, message):
    assert message in problem(api("POST", "/v1/infill", json=request(**change)), status)["detail"]


def test_a_bad_request_lists_its_fields(api):
    body = request(sampling={"n": 0, "temperature": 9})
    fields = {error["field"] for error in problem(api("POST", "/v1/infill", json=body), 422)["errors"]}
    assert fields == {"sampling.n", "sampling.temperature"}


def test_a_body_that_is_not_json_is_refused(api):
    response = api("POST", "/v1/infill", content=b"{oops", headers={"Content-Type": "application/json"})
    assert "not JSON" in problem(response, 400)["detail"]
    response = api("POST", "/v1/judgments", content=b"{oops", headers={"Content-Type": "application/json"})
    assert "not JSON" in problem(response, 400)["detail"]


def test_other_content_types_are_refused(api):
    response = api("POST", "/v1/infill", content=MINUET, headers={"Content-Type": "audio/midi"})
    assert "multipart/form-data" in problem(response, 415)["detail"]
    assert "application/json" in problem(api("POST", "/v1/judgments", files={"file": MINUET}), 415)["detail"]


def test_a_form_without_a_file_is_refused(api):
    response = api("POST", "/v1/infill", files={"options": (None, "{}")})
    assert "file" in problem(response, 400)["detail"]
