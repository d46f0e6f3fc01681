"""Comparing and judging over HTTP, on a real embedded Redis and real files."""

import base64
import json
import secrets

import pytest

from harmonixr_model import examples
from harmonixr_model.music.song import Song
from harmonixr_platform.registry import Lineage, open_registry
from harmonixr_platform.schemas import InfillRequest, Pair
from harmonixr_platform.stores.connect import open_object_store

MINUET = examples.load("minuet-in-g")
INFILL = {
    "midi_base64": base64.b64encode(MINUET).decode(),
    "region": {"bars": "5", "tracks": [1]},
    "sampling": {"seed": 4},
}
RATER = "a-rater-with-a-key"


def own_pair(api, **changes):
    response = api("POST", "/v1/comparisons", json={"rater_key": RATER, "infill": INFILL | changes})
    assert response.status_code == 201, response.text
    return response.json()


def judgment(comparison, **changes):
    return {
        "judgment_id": secrets.token_hex(16),
        "comparison_id": comparison["comparison_id"],
        "token": comparison["token"],
        "rater_key": RATER,
        "choice": "a",
        # A program answers at once: only people must have listened, and be labelled as people.
        "simulated": True,
    } | changes


def test_two_blind_fills_of_an_own_gap_are_judged_once_also_with_retries(api, settings):
    comparison = own_pair(api)
    assert comparison["a"]["notes"] != comparison["b"]["notes"]
    champion = open_registry(settings).resolve("infill", "champion").version
    assert champion not in json.dumps(comparison)
    body = judgment(comparison)
    first, again = (api("POST", "/v1/judgments", json=body) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert not first.json()["duplicate"]
    assert again.json()["duplicate"]
    assert first.json()["model_a"] == champion
    other = api("POST", "/v1/judgments", json=judgment(comparison, choice="b"))
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"


def test_the_three_sounds_of_a_comparison_last_equally_long(api):
    comparison = own_pair(api)
    urls = [comparison["context_audio_url"], comparison["a"]["audio_url"], comparison["b"]["audio_url"]]
    sounds = [api("GET", url) for url in urls]
    assert {s.headers["content-type"] for s in sounds} == {"audio/wav"}
    assert len({len(s.content) for s in sounds}) == 1
    assert len({s.content for s in sounds}) == 3


def test_the_context_of_a_comparison_has_an_empty_gap(api):
    comparison = own_pair(api)
    score = Song.parse(base64.b64decode(comparison["context_base64"])).score
    bar = Song.parse(MINUET).score.bars[4]
    assert not [n for n in score.tracks[0].notes if bar.start <= n.onset < bar.end]


def test_an_own_gap_compares_challenger_and_champion(api, settings, tiny_checkpoints):
    registry = open_registry(settings)
    version = registry.register("infill", tiny_checkpoints[1], Lineage(note="tiny too"))
    registry.promote("infill", version.version, alias="challenger")
    receipt = api("POST", "/v1/judgments", json=judgment(own_pair(api))).json()
    champion = registry.resolve("infill", "champion").version
    assert {receipt["model_a"], receipt["model_b"]} == {champion, version.version}


@pytest.mark.parametrize(("requested", "expected"), [(None, 0.0), (1.0, 1.0)])
def test_fills_of_a_comparison_copy_the_song_only_on_request(api, settings, requested, expected):
    # As the client sends it: every field, those that nobody set as well.
    request = InfillRequest(**INFILL | {"sampling": {"seed": 77, "recall": requested}}).model_dump(mode="json")
    store = open_object_store(settings)
    before = set(store.list("feedback/pairs/"))
    comparison = api("POST", "/v1/comparisons", json={"rater_key": RATER, "infill": request})
    assert comparison.status_code == 201
    for key in set(store.list("feedback/pairs/")) - before:
        pair = Pair.model_validate_json(store.get(key).data)
        assert (pair.first.sampling.copy_strength, pair.second.sampling.copy_strength) == (expected, expected)
    assert set(store.list("feedback/pairs/")) > before


def test_equal_fills_are_no_comparison(api):
    silent = {"controls": {"max_notes_per_bar": 0}, "model": open_champion(api)}
    response = api("POST", "/v1/comparisons", json={"rater_key": RATER, "infill": INFILL | silent})
    assert response.status_code == 400
    assert "alike" in response.json()["detail"]


def open_champion(api):
    models = api("GET", "/v1/models").json()["infill"]
    return next(m["version"] for m in models if "champion" in m["aliases"])


def test_a_retracted_judgment_can_be_made_again(api):
    comparison = own_pair(api)
    body = judgment(comparison)
    assert api("POST", "/v1/judgments", json=body).status_code == 201
    retraction = {"judgment_id": body["judgment_id"], "rater_key": RATER}
    first, again = (api("POST", "/v1/retractions", json=retraction) for _ in range(2))
    assert (first.status_code, first.json()["retracted"], first.json()["duplicate"]) == (201, True, False)
    assert again.json()["duplicate"]
    assert api("POST", "/v1/judgments", json=judgment(comparison, choice="b")).status_code == 201


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"token": "forged"}, 403),
        ({"rater_key": "another-rater"}, 403),
        ({"comparison_id": "0" * 32}, 404),
        ({"choice": "c"}, 422),
    ],
)
def test_a_judgment_that_does_not_fit_is_refused(api, change, status):
    response = api("POST", "/v1/judgments", json=judgment(own_pair(api), **change))
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_unknown_pools_and_sounds_are_not_found(api):
    response = api("POST", "/v1/comparisons", json={"rater_key": RATER, "pool": "nobody-made-this"})
    assert response.status_code == 404
    assert "harmonixr feedback pool" in response.json()["detail"]
    assert api("GET", "/v1/audio/not-a-token").status_code in {403, 404}


def test_inspect_and_preview_describe_and_render_a_file(api):
    seen = api("POST", "/v1/inspect", json={"midi_base64": INFILL["midi_base64"]}).json()
    score = Song.parse(MINUET).score
    assert len(seen["bars"]) == len(score.bars)
    assert [t["number"] for t in seen["tracks"]] == [1, 2]
    assert len(seen["notes"]) == sum(len(t.notes) for t in score.tracks)
    body = {"midi_base64": INFILL["midi_base64"], "start_s": 1.0, "end_s": 2.0}
    wav = api("POST", "/v1/preview", json=body).content
    assert len(wav) == 44 + 44_100 * 2 * 2
    refused = api("POST", "/v1/preview", json=body | {"start_s": 5.0})
    assert refused.status_code == 422


def test_the_leaderboard_counts_moved_judgments(api):
    board = api("GET", "/v1/leaderboard").json()
    assert {"judgments", "models"} <= set(board)


def test_a_dead_redis_is_a_503_that_loses_nothing(make_api, tmp_path):
    from harmonixr_platform.serving.arguments import ServingArgs
    from harmonixr_platform.serving.stages.feedback import Feedback
    from harmonixr_platform.settings import Settings

    dead = Feedback(ServingArgs(), settings=Settings(state_dir=tmp_path, redis_url="redis://127.0.0.1:1/0"))
    response = make_api({"Feedback": dead})("POST", "/v1/comparisons", json={"rater_key": RATER, "infill": INFILL})
    dead.stop()
    assert response.status_code == 503
    assert response.headers["retry-after"] == "3"
    assert "nothing was lost" in response.json()["detail"]
