"""A fill as server-sent events, and its cancellation when the client hangs up."""

import asyncio
import base64
import json

import pytest

from harmonixr_model import examples

MINUET = examples.load("minuet-in-g")
BODY = {
    "midi_base64": base64.b64encode(MINUET).decode(),
    "region": {"bars": "5-6", "tracks": [1]},
    "sampling": {"seed": 7, "n": 2},
}
STREAM = {"Accept": "text/event-stream"}


def events_of(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def stream(api, **changes):
    return events_of(api("POST", "/v1/infill", json=BODY | changes, headers=STREAM))


def test_bars_come_before_their_candidate_and_done_comes_last_and_once(api):
    events = stream(api)
    names = [name for name, _ in events]
    assert names[0] == "accepted"
    assert names[-1] == "done"
    assert names.count("accepted") == names.count("done") == 1
    assert "error" not in names
    for index in range(2):
        place = next(i for i, (name, data) in enumerate(events) if name == "candidate" and data["index"] == index)
        bars = [i for i, (name, data) in enumerate(events) if name == "bar" and data["candidate"] == index]
        assert len(bars) == 2
        assert max(bars) < place


@pytest.mark.parametrize(
    "region",
    [
        {"bars": "5-6", "tracks": [1]},
        {"bars": "1-12"},
        {"beats": "14-17"},
        {"continue_bars": 2},
        {"ticks": [1000, 2001], "pitch_low": 60},
    ],
)
def test_the_bars_hold_the_candidates_notes(api, region):
    events = stream(api, region=region, sampling={"seed": 3})
    (candidate,) = [data for name, data in events if name == "candidate"]
    bars = [data for name, data in events if name == "bar"]
    streamed = [(n["track"], n["onset_tick"], n["pitch"]) for bar in bars for n in bar["notes"]]
    final = [(n["track"], n["onset_tick"], n["pitch"]) for n in candidate["notes"]]
    # Splicing may drop a note that collides with a context note; it adds none.
    assert set(final) <= set(streamed)
    assert len(streamed) - len(final) <= len(streamed) // 10
    assert all(bar["track"] == n["track"] for bar in bars for n in bar["notes"])
    assert len({(bar["bar"], bar["track"]) for bar in bars}) == len(bars)


def test_a_stream_has_the_same_fills_as_json(api):
    response = api("POST", "/v1/infill", json=BODY).json()
    events = stream(api)
    candidates = sorted((data for name, data in events if name == "candidate"), key=lambda c: c["index"])
    done = events[-1][1]
    for streamed, given in zip(candidates, response["candidates"], strict=True):
        assert streamed | {"audio_url": ""} == given | {"audio_url": ""}
        assert api("GET", streamed["audio_url"]).status_code == 200
    assert done["model_version"] == response["model_version"]
    assert done["seed"] == response["seed"]
    assert set(done["timings_ms"]) == set(response["timings_ms"])


def test_a_bad_request_has_its_own_status(api):
    response = api("POST", "/v1/infill", json=BODY | {"region": {"bars": "99"}}, headers=STREAM)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_a_later_error_ends_the_stream_with_one_error_event(make_api, stages):
    class Breaking:
        async def finish(self, *args):
            raise RuntimeError("secret internals")

    events = stream(make_api({"Decoding": Breaking()}))
    names = [name for name, _ in events]
    assert names[0] == "accepted"
    assert names[-1] == "error"
    assert names.count("error") == 1
    assert "done" not in names
    assert events[-1][1]["status"] == 500
    assert "secret" not in events[-1][1]["detail"]


def test_concurrent_requests_with_one_key_share_a_stream(api):
    headers = STREAM | {"Idempotency-Key": "stream-1"}
    body = BODY | {"sampling": {"n": 1}}
    requests = [("POST", "/v1/infill", {"json": body, "headers": headers})] * 2
    plain = ("POST", "/v1/infill", {"json": body, "headers": {"Idempotency-Key": "stream-1"}})
    one, two, response = api.together(*requests, plain)
    assert events_of(one) == events_of(two)
    streamed = next(data for name, data in events_of(one) if name == "candidate")
    assert streamed == response.json()["candidates"][0]


def test_hanging_up_frees_the_rows_at_the_next_step(make_api, stages):
    api = make_api()
    # Long enough to be in progress when the client hangs up.
    body = BODY | {"region": {"bars": "1-16"}, "sampling": {"n": 4, "temperature": 1.5, "seed": 1}}

    async def run(headers):
        import httpx

        transport = httpx.ASGITransport(app=api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            sending = asyncio.create_task(http.post("/v1/infill", json=body, headers=headers))
            (engine,) = [loaded.engine for loaded in stages["Model"]._versions._engines.values()]
            while engine.stats().running < 4:
                await asyncio.sleep(0.001)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            steps = engine.stats().steps
            while engine.stats().running:
                await asyncio.sleep(0)
            assert engine.stats().steps - steps <= 2
            assert engine.stats().held_tokens == 0
            assert api.service.waiting == 0

    assert api("GET", "/readyz").status_code == 200
    asyncio.run(run({}))
    asyncio.run(run(STREAM))
