"""Over HTTP: replayed, forged, expired or mismatched is refused, a flood limited, and who never listens is seen."""

import base64
import gzip
import hashlib
import json
import random
import secrets
from datetime import UTC, datetime, timedelta

import pytest

from harmonixr_model import examples
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice
from harmonixr_platform.feedback.records.erasure import Eraser
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.pairs import PairStore, make_pair
from harmonixr_platform.feedback.records.pools import PoolStore
from harmonixr_platform.feedback.studies.definition import parse_study
from harmonixr_platform.feedback.studies.store import BegunStudy, StudyPair, StudyStore
from harmonixr_platform.requests import resolve_region
from harmonixr_platform.schemas import Candidate, ControlSpec, RegionSpec, SamplingSpec
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.stages.decoding import Decoding
from harmonixr_platform.serving.stages.feedback import Feedback
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store

MINUET = examples.load("minuet-in-g")
REGION = RegionSpec(bars="5", tracks=[1])


@pytest.fixture(scope="module")
def open_settings(tmp_path_factory):
    """A service of its own with a pool of six pairs and a study of the same, two comparisons a rater."""
    settings = Settings(state_dir=tmp_path_factory.mktemp("honesty"), rater_per_minute=100)
    store = open_object_store(settings)
    pairs = [PairStore(store).put(pair(seed)) for seed in range(6)]
    for one in pairs:
        PoolStore(store).add("pool", one.pair_id)
    values = {
        "name": "study",
        "arms": [{"name": "x"}, {"name": "y"}],
        "quotas": {"per_rater": 2},
        "gold": {"share": 0},
    }
    StudyStore(store).begin(
        BegunStudy(
            study=parse_study(values, source="test"),
            models={"x": "model-x", "y": "model-y"},
            pairs=tuple(StudyPair(pair_id=one.pair_id, first="x", second="y") for one in pairs),
            gold=(),
            begun=datetime.now(UTC),
        )
    )
    return settings


@pytest.fixture(scope="module")
def feedback(open_settings):
    stage = Feedback(ServingArgs(), settings=open_settings)
    yield stage
    stage.stop()


@pytest.fixture(scope="module")
def stages(feedback):
    """The only stage of these tests; they need no model."""
    return {"Decoding": Decoding(ServingArgs()), "Feedback": feedback}


def pair(seed):
    """Two random fills of a bar of the minuet, by two models."""
    song = Song.parse(MINUET)
    region = resolve_region(REGION, song)
    (cell,) = region.cells
    sides = []
    for name in ("x", "y"):
        rng = random.Random(f"{seed}{name}")
        notes = [Note(rng.randrange(cell.start, cell.end), 40, rng.randrange(60, 80), 70) for _ in range(5)]
        midi = splice(song, region, {cell.track: notes}).midi
        sides.append(
            Candidate(
                model_version=f"model-{name}",
                checkpoint_sha256="0" * 64,
                sampling=SamplingSpec(),
                seed=seed,
                tokens=((seed,),),
                midi_sha256=hashlib.sha256(midi).hexdigest(),
                midi_base64=base64.b64encode(midi).decode(),
            )
        )
    return make_pair(MINUET, piece_id="minuet", region=REGION, controls=ControlSpec(), first=sides[0], second=sides[1])


def compare(api, rater, pool="pool"):
    return api("POST", "/v1/comparisons", json={"rater_key": rater, "pool": pool})


def shown(api, rater, pool="pool"):
    response = compare(api, rater, pool)
    assert response.status_code == 201, response.text
    return response.json()


def answer(comparison, rater, **changes):
    return {
        "judgment_id": secrets.token_hex(16),
        "comparison_id": comparison["comparison_id"],
        "token": comparison["token"],
        "rater_key": rater,
        "choice": "a",
        "simulated": True,
        "listening": {"heard_a": 1, "heard_b": 1},
    } | changes


def judge(api, body):
    return api("POST", "/v1/judgments", json=body)


def refused(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()


def key():
    return f"rater-{secrets.token_hex(6)}"


def test_a_token_of_another_comparison_or_rater_is_forbidden(api):
    mine, theirs = key(), key()
    first, second, other = shown(api, mine), shown(api, mine), shown(api, theirs)
    until, _, mac = first["token"].partition(".")
    for token in (
        second["token"],
        other["token"],
        f"{until}.{'0' * len(mac)}",
        f"{int(until) + 86_400}.{mac}",
        mac,
        "",
        "é.ü",
    ):
        assert "token" in refused(judge(api, answer(first, mine, token=token)), 403)["detail"]
    refused(judge(api, answer(first, theirs)), 403)
    assert judge(api, answer(first, mine)).status_code == 201


def test_a_repeated_judgment_is_never_a_second_vote(api):
    rater = key()
    comparison = shown(api, rater)
    body = answer(comparison, rater)
    assert not judge(api, body).json()["duplicate"]
    assert judge(api, body).json()["duplicate"]
    refused(judge(api, body | {"judgment_id": secrets.token_hex(16)}), 409)
    refused(judge(api, body | {"choice": "b"}), 409)
    later = shown(api, rater)
    refused(judge(api, answer(later, rater, judgment_id=body["judgment_id"])), 409)


def test_a_late_judgment_is_gone_and_an_unknown_comparison_not_found(api, feedback, monkeypatch):
    rater = key()
    comparison = shown(api, rater)
    refused(judge(api, answer(comparison, rater, comparison_id="f" * 32)), 404)
    late = datetime.now(UTC) + timedelta(days=2)
    monkeypatch.setattr(feedback._service, "_now", lambda: late)
    assert "expired" in refused(judge(api, answer(comparison, rater)), 410)["detail"]


def test_a_forged_sound_is_forbidden(api):
    comparison = shown(api, key())
    url = comparison["a"]["audio_url"]
    assert api("GET", url).status_code == 200
    turned = url[:-1] + ("0" if url[-1] != "0" else "1")
    refused(api("GET", turned), 403)


def test_a_judgment_faster_than_listening_is_not_counted(api):
    """Not simulated: the evidence is checked, and intervals can be invented but time cannot."""
    rater = key()
    comparison = shown(api, rater)
    unheard = answer(comparison, rater, simulated=False, listening={})
    refused(judge(api, unheard), 422)
    whole = [[comparison["start_s"], comparison["end_s"]]]
    invented = {"intervals_a": whole, "intervals_b": whole}
    refused(judge(api, answer(comparison, rater, simulated=False, listening=invented)), 409)


@pytest.fixture
def still(feedback, monkeypatch):
    """A fixed clock, so that the speed of this machine does not matter."""
    now = datetime.now(UTC)
    monkeypatch.setattr(feedback._service, "_now", lambda: now)


@pytest.mark.usefixtures("still")
def test_one_key_is_limited_with_a_retry_after_and_others_are_not(api):
    flooder, other = key(), key()
    answers = [compare(api, flooder) for _ in range(103)]
    assert [response.status_code for response in answers] == [201] * 100 + [429] * 3
    limited = answers[100:]
    assert refused(limited[0], 429)["type"] == "urn:harmonixr:problem:too-many"
    assert int(limited[0].headers["retry-after"]) >= 1
    assert compare(api, other).status_code == 201
    # Judgments have a rate limit of their own: a rater can still judge a presented comparison.
    assert judge(api, answer(answers[0].json(), flooder)).status_code == 201


@pytest.mark.usefixtures("still")
def test_forged_judgments_are_limited_too(api):
    rater = key()
    comparison = shown(api, rater)
    statuses = [judge(api, answer(comparison, rater, token="1." + "0" * 64)).status_code for _ in range(103)]
    assert statuses == [403] * 100 + [429] * 3


def test_own_gaps_are_limited_before_anything_is_filled(make_api, open_settings):
    class Never:
        async def describe(self, reference):
            raise AssertionError("no model may be called")

    stage = Feedback(ServingArgs(), settings=open_settings.model_copy(update={"rater_per_minute": 1}))
    api = make_api({"Feedback": stage, "Model": Never()})
    rater = key()
    shown(api, rater)
    infill = {"midi_base64": base64.b64encode(MINUET).decode(), "region": {"bars": "5"}}
    refused(api("POST", "/v1/comparisons", json={"rater_key": rater, "infill": infill}), 429)
    stage.stop()


def test_a_study_reports_progress_and_its_end(api):
    rater = key()
    for done in range(2):
        comparison = shown(api, rater, "study")
        assert comparison["progress"] == {"done": done, "total": 2}
        assert not any(word in json.dumps(comparison) for word in ("model-", "role", "repeat", "propensity", "arms"))
        assert judge(api, answer(comparison, rater)).status_code == 201
    assert refused(compare(api, rater, "study"), 409)["type"] == "urn:harmonixr:problem:study-complete"


def test_a_rater_who_always_chooses_a_is_flagged_in_the_report(api, open_settings):
    rater, honest = key(), key()
    for number in range(16):
        assert judge(api, answer(shown(api, rater), rater)).status_code == 201
        # A rater with a preference chooses a side as often as the preferred fill is there.
        choice = "ab"[number % 2]
        assert judge(api, answer(shown(api, honest), honest, choice=choice)).status_code == 201
    mover = Mover.open(open_settings)
    mover.run_once()
    mover.close()
    board = api("GET", "/v1/leaderboard?study=pool").json()
    (panel,) = board["panels"]
    assert panel["origin"] == "simulated"
    flagged = {quality["side_a"]: {flag["rule"] for flag in quality["flags"]} for quality in panel["quality"]}
    assert "one_side" in flagged[16]
    assert "one_side" not in flagged[8]


def test_an_erased_rater_is_unknown(api, open_settings):
    rater = key()
    assert judge(api, answer(shown(api, rater), rater)).status_code == 201
    for _ in range(2):
        response = api("POST", "/v1/erasures", json={"rater_key": rater})
        assert (response.status_code, response.json()) == (202, {"accepted": True})
    assert "start with a new key" in refused(compare(api, rater), 410)["detail"]
    eraser = Eraser.open(open_settings)
    pseudonym = eraser.pseudonym(rater)
    eraser.repeat(now=datetime.now(UTC))
    eraser.close()
    folder = open_settings.state_dir / "objects"
    files = [file for file in folder.rglob("*") if file.is_file()]
    texts = [gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files]
    assert len(texts) > 6
    assert not any(pseudonym.encode() in text for text in texts)
