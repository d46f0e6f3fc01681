"""Concurrent requests: limits, deadlines, and a greedy caller that cannot starve the others."""

import asyncio
import base64

import httpx
import pytest

from harmonixr_model import examples
from harmonixr_model.errors import DeadlinePassed, EngineBusy, FillCancelled
from harmonixr_platform.serving.transport.messages import ModelInfo, Route

MINUET = base64.b64encode(examples.load("minuet-in-g")).decode()
SMALL = {"midi_base64": MINUET, "region": {"bars": "5", "tracks": [1]}, "sampling": {"seed": 1}}
# The longest region and the most candidates: several windows, each full.
GREEDY = SMALL | {"region": {"bars": "1-16"}, "sampling": {"seed": 1, "n": 16, "temperature": 1.5}}


def infill(api, *bodies, headers=()):
    async def run():
        transport = httpx.ASGITransport(app=api.app, client=("10.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            return await asyncio.gather(*(http.post("/v1/infill", json=body, headers=dict(headers)) for body in bodies))

    return asyncio.run(run())


def test_one_callers_requests_are_limited_and_others_are_accepted(make_api):
    api = make_api(keys=["greedy-key", "modest-key"], caller_waiting=1)

    async def run():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api.app), base_url="http://service") as http:
            requests = [http.post("/v1/infill", json=SMALL, headers={"X-API-Key": k}) for k in ("greedy-key",) * 3]
            return await asyncio.gather(
                *requests, http.post("/v1/infill", json=SMALL, headers={"X-API-Key": "modest-key"})
            )

    *own, other = asyncio.run(run())
    assert sorted(response.status_code for response in own) == [200, 429, 429]
    refused = next(response for response in own if response.status_code == 429)
    assert refused.headers["retry-after"] == "3"
    assert "of your requests" in refused.json()["detail"]
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (EngineBusy("requests of 9 tokens wait already"), 429, "3"),
        (FillCancelled("the engine was closed"), 503, "3"),
        (DeadlinePassed("the fill was not ready in time"), 504, None),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_errors_of_the_engine_have_a_status_and_a_retry_after(make_api, error, status, retry_after, accept):
    class Busy:
        async def route(self):
            return Route(ModelInfo("v", "s", 2048))

        async def generate(self, version, request):
            raise error

        async def stream(self, version, request):
            raise error
            yield

    response = make_api({"Model": Busy()})("POST", "/v1/infill", json=SMALL, headers={"Accept": accept})
    assert response.status_code == status
    assert response.headers.get("retry-after") == retry_after
    assert response.json()["detail"] == str(error)


def test_a_greedy_request_does_not_delay_a_modest_one(make_api, stages):
    api = make_api()
    # A busy machine may need longer for its first token than a probe waits.
    assert any(api("GET", "/readyz").status_code == 200 for _ in range(5))

    async def run():
        transports = [httpx.ASGITransport(app=api.app, client=(f"10.0.0.{i}", 1)) for i in range(2)]
        greedy_http, modest_http = (httpx.AsyncClient(transport=t, base_url="http://service") for t in transports)
        async with greedy_http, modest_http:
            greedy = asyncio.create_task(greedy_http.post("/v1/infill", json=GREEDY))
            (engine,) = [loaded.engine for loaded in stages["Model"]._versions._engines.values()]
            while engine.stats().running < 2:
                await asyncio.sleep(0.005)
            response = await modest_http.post("/v1/infill", json=SMALL)
            overtook = not greedy.done()
            greedy.cancel()
            await asyncio.gather(greedy, return_exceptions=True)
            return response, overtook

    response, overtook = asyncio.run(run())
    assert response.status_code == 200
    assert overtook


def test_a_bad_request_among_many_is_refused_and_affects_no_other(make_api):
    api = make_api()
    bad = [SMALL | {"region": {"bars": "99"}}, SMALL | {"midi_base64": base64.b64encode(b"no song").decode()}]
    alone = [infill(api, body)[0].json() for body in (SMALL, *bad)]
    together = infill(api, SMALL, bad[0], SMALL, bad[1], SMALL)
    assert [response.status_code for response in together] == [200, 422, 200, 422, 200]
    assert together[1].json() == alone[1]
    assert together[3].json() == alone[2]
    for response in (together[0], together[2], together[4]):
        assert response.json()["candidates"][0]["tokens"] == alone[0]["candidates"][0]["tokens"]


def test_a_caller_can_set_a_shorter_deadline_for_the_engine(make_api, stages):
    api = make_api()
    (late,) = infill(api, GREEDY, headers={"X-Harmonixr-Timeout-S": "0.3"})
    assert late.status_code == 504, late.text
    (engine,) = [loaded.engine for loaded in stages["Model"]._versions._engines.values()]
    assert not engine.stats().waiting
    (refused,) = infill(api, SMALL, headers={"X-Harmonixr-Timeout-S": "-1"})
    assert refused.status_code == 422


def test_every_response_has_the_time_of_each_stage(make_api):
    api = make_api()
    response = api("POST", "/v1/infill", json=SMALL).json()
    timings = response["timings_ms"]
    stages = ["ingress", "tokenization", "queue", "prefill", "decode", "splice", "render", "graph"]
    assert list(timings) == [*stages, "total"]
    assert sum(timings[stage] for stage in stages) <= timings["total"] + 0.1
    assert timings["decode"] > 0
    text = api("GET", "/metrics").text
    for stage in (*stages, "total"):
        assert f'harmonixr:stage_seconds_count{{stage="{stage}"}} 1.0' in text
