"""The page's own routes pass requests on, keep pairs blind and pass on the errors of the service."""

import asyncio
import base64

import httpx
import pytest
from fastapi import FastAPI

from harmonixr_model import examples
from harmonixr_platform.client import Client, ServiceError
from harmonixr_ui.api import Api
from harmonixr_ui.fill import alert, result_value
from harmonixr_ui.form import Form, infill_request
from harmonixr_ui.routes import MAX_BODY_BYTES, audio_path, make_router

MIDI = base64.b64encode(examples.load("song-1")).decode()
KEY = "a-rater-of-the-tests"


@pytest.fixture
def page(service, serve):
    """The routes alone, spoken to as a browser would: `page(method, path, **request)`."""
    app = FastAPI()
    app.include_router(make_router(Api(serve(service.app))))

    def send(method, path, **request):
        async def once():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as http:
                return await http.request(method, path, **request)

        return asyncio.run(once())

    return send


def test_a_pair_reaches_the_page_without_a_word_of_who_made_it(page, service):
    service.pool_song = MIDI
    answer = page("POST", "/hx/comparisons", json={"rater_key": KEY, "pool": "default"})
    assert answer.status_code == 200
    pair = answer.json()
    assert set(pair) == {
        "comparison_id", "token", "start_s", "end_s", "audio_start_s", "audio_end_s", "min_heard", "progress",
        "region", "a", "b", "song",
    }  # fmt: skip
    assert set(pair["a"]) == set(pair["b"]) == {"audio", "notes"}
    assert "model" not in answer.text
    assert pair["a"]["audio"].startswith("hx/audio/")


def test_the_files_of_two_fills_of_ones_own_gap_are_ones_own_to_keep(page):
    infill = {"midi_base64": MIDI, "region": {"bars": "5", "tracks": [1]}}
    pair = page("POST", "/hx/comparisons", json={"rater_key": KEY, "infill": infill}).json()
    assert set(pair["a"]) == set(pair["b"]) == {"audio", "notes", "midi_base64"}


def test_the_two_sounds_cannot_be_told_apart_but_by_ear(page, service):
    service.pool_song = MIDI
    pair = page("POST", "/hx/comparisons", json={"rater_key": KEY, "pool": "default"}).json()
    first, second = (page("GET", f"/{pair[side]['audio']}") for side in "ab")
    assert first.headers == second.headers
    assert len(first.content) == len(second.content)
    assert "etag" not in first.headers
    assert "last-modified" not in first.headers


def test_what_comes_back_of_a_vote_names_no_model(page, service):
    service.pool_song = MIDI
    pair = page("POST", "/hx/comparisons", json={"rater_key": KEY, "pool": "default"}).json()
    vote = {
        "judgment_id": "judgment-1", "comparison_id": pair["comparison_id"], "token": pair["token"],
        "rater_key": KEY, "choice": "skip",
    }  # fmt: skip
    answer = page("POST", "/hx/judgments", json=vote)
    assert answer.json() == {"judgment_id": "judgment-1", "stored": True}
    back = page("POST", "/hx/retractions", json={"judgment_id": "judgment-1", "rater_key": KEY})
    assert (back.status_code, back.json()) == (201, {"judgment_id": "judgment-1", "retracted": True})
    assert service.retracted == ["judgment-1"]


def test_the_service_refuses_a_judgment_without_listening(page, service):
    service.pool_song = MIDI
    pair = page("POST", "/hx/comparisons", json={"rater_key": KEY, "pool": "default"}).json()
    vote = {
        "judgment_id": "judgment-1", "comparison_id": pair["comparison_id"], "token": pair["token"],
        "rater_key": KEY, "choice": "a", "listening": {"heard_a": 1, "heard_b": 1},
    }  # fmt: skip
    answer = page("POST", "/hx/judgments", json=vote)
    assert answer.status_code == 422
    assert "0% of the fill was heard" in answer.json()["detail"]
    heard = [[pair["start_s"], pair["end_s"]]]
    answer = page("POST", "/hx/judgments", json=vote | {"listening": {"intervals_a": heard, "intervals_b": heard}})
    assert answer.status_code == 409
    assert service.judgments == {}


def test_a_pair_to_practise_on_needs_no_pool_and_knows_its_answer(page, service):
    pair = page("GET", "/hx/practice").json()
    assert pair["better"] == "b"
    assert pair["audio_start_s"] < pair["start_s"] < pair["end_s"] < pair["audio_end_s"]
    pitches = [[note["pitch"] for note in pair[side]["notes"]] for side in "ab"]
    onsets = [[note["onset_tick"] for note in pair[side]["notes"]] for side in "ab"]
    assert onsets[0] == onsets[1]
    assert pitches[0] != pitches[1]
    in_gap = [n for n in pair["song"]["notes"] if n["track"] == 1 and pair["start_s"] <= n["onset_s"] < pair["end_s"]]
    assert in_gap == []
    assert [path for path, _ in service.requests] == ["/v1/inspect"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HARMONIXR_API_KEY": "own-key"}, "Bearer own-key"),
        ({"HARMONIXR_API_KEYS": "first-key, second-key"}, "Bearer first-key"),
        ({"HARMONIXR_API_KEY": "own-key", "HARMONIXR_API_KEYS": "other"}, "Bearer own-key"),
        ({}, None),
    ],
)
def test_the_key_for_the_service_comes_from_the_servers_environment_and_goes_no_further(
    service, serve, monkeypatch, environment, expected
):
    from harmonixr_platform.settings import Settings
    from harmonixr_ui.app import _service

    for name in ("HARMONIXR_API_KEY", "HARMONIXR_API_KEYS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Settings()  # both are settings: an unknown one would stop every command
    service.pool_song = MIDI
    app = FastAPI()
    app.include_router(make_router(_service(serve(service.app))))

    async def send_body():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as http:
            return await http.post("/hx/comparisons", json={"rater_key": KEY, "pool": "default"})

    answer = asyncio.run(send_body())
    assert answer.status_code == 200
    assert {headers.get("authorization") for headers in service.headers} == {expected}
    assert "key" not in f"{answer.text}{answer.headers}".replace("rater_key", "")


def test_the_song_around_a_pair_leaves_its_fill_out(page, service):
    service.pool_song, service.first_step = MIDI, 0
    pair = page("POST", "/hx/comparisons", json={"rater_key": KEY, "pool": "default"}).json()
    left = [n for n in pair["song"]["notes"] if n["track"] == 1 and pair["start_s"] <= n["onset_s"] < pair["end_s"]]
    assert left == []
    assert len(pair["song"]["notes"]) > 500


def test_a_vote_is_passed_on_with_its_status_and_sentence(page, service):
    service.pool_song = MIDI
    pair = page("POST", "/hx/comparisons", json={"rater_key": KEY, "pool": "default"}).json()
    vote = {
        "judgment_id": "judgment-1", "comparison_id": pair["comparison_id"], "token": pair["token"],
        "rater_key": KEY, "choice": "skip",
    }  # fmt: skip
    service.lose_judgments = 2
    lost = page("POST", "/hx/judgments", json=vote)
    assert (lost.status_code, lost.json()) == (503, {"detail": "The vote store does not answer; vote again"})
    assert page("POST", "/hx/judgments", json=vote).status_code == 201
    assert service.judgments["judgment-1"].choice == "skip"


def test_sound_comes_through_by_token_and_nothing_else_does(page, service):
    service.sounds["abc-1"] = 0.1
    sound = page("GET", "/hx/audio/abc-1")
    assert sound.headers["content-type"] == "audio/wav"
    assert sound.content[:4] == b"RIFF"
    assert page("GET", "/hx/audio/..%2f..%2fv1%2fmodels").status_code == 404
    assert page("GET", "/hx/assets/..%2froutes.py").status_code == 404
    assert page("GET", "/hx/assets/roll.js").headers["content-type"].startswith("text/javascript")


def test_a_preview_is_sound_of_the_stretch_asked_for(page):
    sound = page("POST", "/hx/preview", json={"midi_base64": MIDI, "start_s": 1, "end_s": 3})
    assert sound.headers["content-type"] == "audio/wav"
    assert len(sound.content) == 44 + 2 * 2 * 8000


def test_a_body_past_the_limit_is_refused_before_it_is_passed_on(page, service):
    answer = page("POST", "/hx/preview", content=b"x" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert service.requests == []


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/v1/audio/abc.DEF-_1", "hx/audio/abc.DEF-_1"),
        ("http://127.0.0.1:8000/v1/audio/abc", "hx/audio/abc"),
    ],
)
def test_the_services_addresses_of_sounds_become_ours(url, path):
    assert audio_path(url) == path


def test_a_sound_from_elsewhere_is_refused():
    with pytest.raises(ServiceError, match="cannot fetch"):
        audio_path("http://elsewhere.example/track.wav")


def test_a_problem_is_its_detail_as_a_sentence(page, service):
    service.problem = ("/v1/preview", 422, "the stretch from 9 s lies past the end")
    answer = page("POST", "/hx/preview", json={"midi_base64": MIDI, "start_s": 9})
    assert (answer.status_code, answer.json()) == (422, {"detail": "The stretch from 9 s lies past the end"})


def test_a_request_the_page_should_never_make_is_refused_here(page, service):
    answer = page("POST", "/hx/judgments", json={"choice": "perhaps"})
    assert answer.status_code == 422
    assert service.requests == []


def test_an_unreachable_service_is_named_by_its_address():
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:9 does not answer"):
        asyncio.run(Api("http://127.0.0.1:9").inspect(MIDI))


def test_a_result_has_what_the_page_draws_and_the_seed(service, serve):
    request = infill_request(Form(5, 8, [1], n=2, seed="5"), MIDI)
    with Client(serve(service.app)) as client:
        response = client.infill(base64.b64decode(MIDI), request.region, sampling=request.sampling)
    value = result_value(request, response)
    assert (value["seed"], value["bars"], value["tracks"]) == (5, "5-8", [1])
    assert len(value["fills"]) == 2
    assert value["fills"][0]["notes"][0].keys() >= {"track", "onset_tick", "duration_ticks", "pitch"}


def test_names_in_a_file_cannot_put_markup_into_the_page():
    assert "<img" not in alert("<img src=x onerror=alert(1)> holds no notes")
