"""A service of this version goes on with the stores, Redis and clients of a stopped 0.1.0 service."""

import asyncio
import base64
import json
import random
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

with warnings.catch_warnings():
    # Ray's own schemas use what pydantic deprecates; imported once here, before warnings are errors.
    warnings.simplefilter("ignore")
    import ray.serve  # noqa: F401

from harmonixr_model import examples
from harmonixr_model.music.song import Song
from harmonixr_platform.feedback.errors import AlreadyJudged, RaterErased
from harmonixr_platform.feedback.records.judgments import JudgmentLog
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.registry import open_registry
from harmonixr_platform.requests import attribute_controls_of, constraints_of, resolve_region
from harmonixr_platform.schemas import ComparisonRequest, ControlSpec, JudgmentRequest, RegionSpec
from harmonixr_platform.serving.app import build_app
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.deploy.config_lint import lint_serve_config
from harmonixr_platform.serving.http.api import make_api
from harmonixr_platform.serving.infill.service import Service
from harmonixr_platform.serving.stages.decoding import Decoding
from harmonixr_platform.serving.stages.feedback import Feedback
from harmonixr_platform.serving.stages.loading import load_engine
from harmonixr_platform.serving.stages.model import Model
from harmonixr_platform.serving.stages.reward import Reward
from harmonixr_platform.serving.stages.tokenization import Tokenization
from harmonixr_platform.serving.transport.stages import LocalCall, Stages
from harmonixr_platform.stores.connect import open_stream

INTERFACES = json.loads((Path(__file__).parent / "v0_1_0" / "interfaces.json").read_text())
INFILLS = INTERFACES["infills"]
MIDI = INFILLS["hard"]["json"]["midi_base64"]
MINUET = examples.load("minuet-in-g")


# ---- Redis


@pytest.fixture(scope="module")
def stream(settings):
    """The embedded Redis, started on the append-only file that 0.1.0 wrote."""
    opened = open_stream(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def feedback(stream, store, expected):
    """The service at the moment when 0.1.0 stopped."""
    now = datetime.fromisoformat(expected["state"]["open"]["at"]) + timedelta(minutes=1)
    secret = expected["state"]["secret"].encode()
    return FeedbackService(stream, store, secret=secret, rng=random.Random(0), now=lambda: now)


def test_the_tallies_are_as_they_were(stream, expected):
    log = JudgmentLog(stream)
    for pool, pairs in expected["state"]["tallies"].items():
        held = log.tally(pool)
        assert {pair: counts["shown"] for pair, counts in pairs.items()} == {k: v.shown for k, v in held.items()}
        assert {pair: sum(counts[k] for k in ("first", "second", "tie")) for pair, counts in pairs.items()} == {
            pair: tally.judged for pair, tally in held.items()
        }
        assert {pair: counts["last_ms"] for pair, counts in pairs.items()} == {k: v.last_ms for k, v in held.items()}


def test_a_judgment_sent_again_is_a_duplicate_and_another_one_is_refused(feedback, expected):
    request = expected["state"]["open"]["request"]
    receipt = feedback.record_judgment(JudgmentRequest.model_validate(request))
    assert receipt.duplicate
    with pytest.raises(AlreadyJudged):
        feedback.record_judgment(JudgmentRequest.model_validate(request | {"choice": "b", "judgment_id": "another-id"}))


def test_a_comparison_shown_before_the_upgrade_is_judged_after_it_and_all_is_moved(feedback, stream, store, expected):
    view = expected["state"]["open"]["view"]
    assert feedback.audio(view["a"]["audio_url"].rpartition("/")[2]).midi
    heard = [(view["start_s"], view["end_s"])]
    request = {
        "judgment_id": "after-the-upgrade",
        "comparison_id": view["comparison_id"],
        "token": view["token"],
        "rater_key": "listener-3",
        "choice": "b",
        "strength": 3,
        "listening": {"intervals_a": heard, "intervals_b": heard},
    }
    assert not feedback.record_judgment(JudgmentRequest.model_validate(request)).duplicate
    assert Mover(stream, store).run_once() == len(expected["state"]["stream"]) + 1
    judged = {one.judgment.judgment_id for one in read_feedback(store).judged}
    assert judged == {
        *expected["state"]["outcomes"],
        *("judgment-listener-3-songs-0", "judgment-listener-3-songs-1", "after-the-upgrade"),
    }


def test_an_erased_rater_stays_erased(feedback):
    with pytest.raises(RaterErased):
        feedback.create_comparison(ComparisonRequest(rater_key="is-erased", pool="songs"))


# ---- HTTP


def test_a_serve_config_is_taken_with_its_deployments_and_import_path():
    assert lint_serve_config(Path(__file__).parent / "v0_1_0" / "configs" / "serve_config.yaml") == []
    assert callable(build_app)


@pytest.fixture(scope="module")
def service(settings, feedback):
    """The stages of a service, in this process, on the same stores."""
    args = ServingArgs(alias_refresh_s=0, compiled=False)
    registry = open_registry(settings)
    stages = {
        "Tokenization": Tokenization(args),
        "Model": Model(args, load_engine, registry=registry),
        "Decoding": Decoding(args),
        "Reward": Reward(args, registry=registry),
        "Feedback": Feedback(args, settings=settings),
    }
    served = Service(Stages(LocalCall(stages)), args)
    yield served, make_api(served, args)
    stages["Feedback"].stop()
    stages["Model"].stop()


@pytest.fixture(scope="module")
def call(service):
    """Send requests to the service at once; return the responses."""
    served, app = service

    async def send_all(requests):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            responses = await asyncio.gather(*(http.request(m, path, **more) for m, path, more in requests))
            await asyncio.gather(*served._background)
            return responses

    def send(method, path, **more):
        return asyncio.run(send_all([(method, path, more)]))[0]

    return send


def keys_of(value, place=""):
    """Return the dotted names of a JSON value."""
    if isinstance(value, list):
        return set().union(*(keys_of(one, place) for one in value))
    if not isinstance(value, dict):
        return set()
    names = {name: f"{place}.{name}".lstrip(".") for name in value}
    return set(names.values()).union(*(keys_of(value[name], inside) for name, inside in names.items()))


@pytest.mark.parametrize("name", INFILLS)
def test_a_recorded_infill_request_gives_the_same_fills_under_the_same_names(name, call):
    recorded = INFILLS[name]
    response = call("POST", "/v1/infill", json=recorded["json"] | {"midi_base64": MIDI})
    assert response.status_code == 200, response.text
    body = response.json()
    assert keys_of(body) >= set(recorded["fields"])
    assert response.headers.keys() >= set(recorded["headers"])
    for field in ("model_version", "reward_version", "precision"):
        assert body[field] == recorded[field]
    assert [candidate["seed"] for candidate in body["candidates"]] == recorded["seeds"]
    assert [candidate["tokens"] for candidate in body["candidates"]] == recorded["tokens"]


def test_the_other_forms_of_an_infill_response_keep_their_names(call):
    recorded, content = INFILLS["beats"], INFILLS["beats"]["json"] | {"midi_base64": MIDI}
    events = {}
    text = call("POST", "/v1/infill", json=content, headers={"Accept": "text/event-stream"}).text
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "event" in lines:
            events.setdefault(lines["event"], set()).update(keys_of(json.loads(lines["data"])))
    assert events.keys() >= recorded["events"].keys()
    assert all(events[name] >= set(fields) for name, fields in recorded["events"].items())
    midi = call("POST", "/v1/infill", json=content, headers={"Accept": "audio/midi"})
    assert midi.content.startswith(b"MThd")
    assert midi.headers.keys() >= set(recorded["midi_headers"])
    options = {name: value for name, value in content.items() if name != "midi_base64"}
    form = {"files": {"file": ("song.mid", MINUET)}, "data": {"options": json.dumps(options)}}
    headers = {"Idempotency-Key": "key", "X-Harmonixr-Session": "session", "X-Harmonixr-Timeout-S": "30"}
    again = call("POST", "/v1/infill", headers=headers, **form).json()
    assert [candidate["tokens"] for candidate in again["candidates"]] == recorded["tokens"]
    wrong = call("POST", "/v1/infill", json={"region": {"bars": "1"}, "midi_base64": MIDI, "fill": 1})
    missing = call("POST", "/v1/infill", json=content | {"region": {"bars": "900"}})
    for problem, (status, fields) in zip((wrong, missing), recorded["problems"], strict=True):
        assert problem.status_code == status
        assert keys_of(problem.json()) >= set(fields)


def test_every_route_keeps_its_fields(service):
    """Request fields that got another name are accepted under both; the recorded requests above try them."""
    document = service[1].openapi()
    routes = {f"{method} {path}" for path, kinds in document["paths"].items() for method in kinds}
    assert routes >= set(INTERFACES["routes"])
    renamed = {"sampling.recall", "infill.sampling.recall"}
    for part in ("requests", "responses"):
        for route, names in INTERFACES[part].items():
            assert fields_of(document, route, part) >= set(names) - renamed, route


def fields_of(document, route, part):
    method, path = route.split()
    body = document["paths"][path][method]
    if part == "responses":
        body = next(held for status, held in body["responses"].items() if status.startswith("2"))
    else:
        body = body["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    return set(names_in(schema, document["components"]["schemas"]))


def names_in(schema, schemas, place=""):
    """Yield the dotted names below a JSON schema."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    for name, value in schema.get("properties", {}).items():
        inside = f"{place}.{name}".lstrip(".")
        yield inside
        yield from names_in(value, schemas, inside)
    for several in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for one in schema.get(several, ()):
            yield from names_in(one, schemas, place)
    if isinstance(schema.get("items"), dict):
        yield from names_in(schema["items"], schemas, place)


def test_a_listener_of_an_earlier_page_is_served(call):
    view = call("POST", "/v1/comparisons", json={"rater_key": "listener-9", "pool": "songs"})
    assert view.status_code == 201, view.text
    view = view.json()
    assert keys_of(view) >= set(INTERFACES["responses"]["post /v1/comparisons"]) - keys_below_null(view)
    judgment = {
        "judgment_id": "by-a-program",
        "comparison_id": view["comparison_id"],
        "token": view["token"],
        "rater_key": "listener-9",
        "choice": "a",
        "strength": 2,
        "tags": ["timing", "harmony", "seam", "boring", "out_of_style"],
        "comment": "by a program",
        "listening": {
            "heard_a": 1.0,
            "heard_b": 1.0,
            "intervals_a": [[view["start_s"], view["end_s"]]],
            "intervals_b": [[view["start_s"], view["end_s"]]],
            "seconds": 3.0,
            "switches": 2,
            "headphones": "passed",
        },
        "consent": {"version": "1", "given": "2090-01-01T12:00:00Z"},
        "simulated": True,
    }
    assert keys_of(judgment) == set(INTERFACES["requests"]["post /v1/judgments"])
    for path, content, status in (
        ("judgments", judgment, 201),
        ("retractions", {"judgment_id": "by-a-program", "rater_key": "listener-9"}, 201),
        ("erasures", {"rater_key": "listener-9"}, 202),
    ):
        response = call("POST", f"/v1/{path}", json=content)
        assert response.status_code == status, response.text
        assert keys_of(response.json()) >= set(INTERFACES["responses"][f"post /v1/{path}"])


def keys_below_null(view):
    """Return the names that a view without progress leaves out."""
    return (
        set()
        if view["progress"]
        else {"progress.done", "progress.total"}
        | {name for name in INTERFACES["responses"]["post /v1/comparisons"] if name.startswith("region.")}
    )


def test_pages_for_operators_keep_their_names(call):
    wanted = INTERFACES["pages"]
    assert keys_of(call("GET", "/readyz").json()) >= set(wanted["readyz"])
    assert call("GET", "/v1/models").json() == wanted["models"]
    study = call("GET", "/v1/leaderboard", params={"study": "temperatures"}).json()
    assert keys_of(call("GET", "/v1/leaderboard").json()) | keys_of(study) >= set(wanted["leaderboard"])
    samples = [line.split(" ")[0] for line in call("GET", "/metrics").text.splitlines() if line[:1] != "#"]
    assert {sample.partition("{")[0] for sample in samples} >= set(wanted["metrics"])
    assert {
        f"{name} {label.partition('=')[0]}"
        for name, _, inside in (sample.partition("{") for sample in samples)
        for label in inside.split(",")
        if "=" in label
    } >= set(wanted["labels"])


def test_the_tokens_of_a_recorded_response_give_the_same_notes(call, shipped):
    """`Infiller.replay` of what a client kept."""
    recorded, song = INFILLS["soft"]["json"], Song.parse(MINUET)
    controls = ControlSpec.model_validate(recorded["controls"])
    body = call("POST", "/v1/infill", json=recorded | {"midi_base64": MIDI}).json()
    fill = shipped.replay(
        song,
        resolve_region(RegionSpec.model_validate(recorded["region"]), song),
        INFILLS["soft"]["tokens"][0],
        constraints=constraints_of(controls),
        controls=attribute_controls_of(controls),
    )
    assert fill.midi == base64.b64decode(body["candidates"][0]["midi_base64"])
