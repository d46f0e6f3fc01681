"""Requests that are refused before a route reads them, health checks, documentation and metrics."""

import asyncio
import base64
import json
import time

import pytest

from harmonixr_model import examples

MINUET = base64.b64encode(examples.load("minuet-in-g")).decode()
BODY = {"midi_base64": MINUET, "region": {"bars": "5", "tracks": [1]}, "sampling": {"seed": 1}}


def problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["detail"]


def test_a_file_over_the_limit_is_refused_before_it_is_read(api):
    read = 0

    async def body():
        nonlocal read
        while True:
            read += 1
            yield b" " * 2**20

    headers = {"Content-Type": "application/json"}
    for path in ("/v1/infill", "/v1/inspect"):
        read = 0
        assert "8 MiB" in problem(api("POST", path, content=body(), headers=headers), 413)
        assert read < 16
    refused = api("POST", "/v1/infill", content=b"{}", headers=headers | {"Content-Length": str(10**8)})
    assert "8 MiB" in problem(refused, 413)


def test_a_file_just_over_the_limit_inside_a_small_enough_body_is_refused_too(make_api):
    api = make_api(max_midi_bytes=1024)
    assert "the limit of this service" in problem(
        api("POST", "/v1/infill", json=BODY | {"midi_base64": "A" * 4000}), 413
    )


def test_a_service_with_keys_needs_one(make_api):
    api = make_api(keys=["first-key", "second-key"])
    refused = api("GET", "/v1/models")
    assert "API key" in problem(refused, 401)
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "API key" in problem(api("GET", "/v1/models", headers={"X-API-Key": "first-ke"}), 401)
    assert api("GET", "/v1/models", headers={"X-API-Key": "first-key"}).status_code == 200
    assert api("GET", "/v1/models", headers={"Authorization": "Bearer second-key"}).status_code == 200
    assert api("GET", "/healthz").status_code == 200


def test_too_many_waiting_requests_get_a_retry_after(make_api):
    class Slow:
        async def route(self):
            await asyncio.sleep(0.3)
            raise RuntimeError("never needed")

    api = make_api({"Model": Slow()}, max_waiting=1)
    answers = api.together(*[("POST", "/v1/infill", {"json": BODY})] * 3)
    refused = [a for a in answers if a.status_code == 429]
    assert len(refused) == 2
    assert refused[0].headers["retry-after"] == "3"
    assert api.service.waiting == 0


def test_a_request_ends_at_the_deadline_and_the_error_names_it(make_api):
    class Endless:
        async def route(self):
            await asyncio.sleep(60)

    api = make_api({"Model": Endless()}, deadline_s=0.2)
    started = time.monotonic()
    assert "0.2 seconds" in problem(api("POST", "/v1/infill", json=BODY), 504)
    assert time.monotonic() - started < 5


def test_an_unexpected_error_has_a_number_and_no_traceback(make_api):
    class Broken:
        async def route(self):
            raise RuntimeError("secret internals")

    response = make_api({"Model": Broken()})("POST", "/v1/infill", json=BODY)
    assert "a fault of the service" in problem(response, 500)
    assert "secret internals" not in response.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", "/v1/infill", 405)])
def test_unknown_paths_and_methods_point_to_the_docs(api, method, path, status):
    assert "/docs" in problem(api(method, path), status)


def test_readiness_decodes_a_token_and_health_does_not(make_api):
    class Dead:
        async def probe(self):
            from harmonixr_platform.serving.errors import Unavailable

            raise Unavailable("the Model stage is restarting; try again in a few seconds")

    assert make_api()("GET", "/readyz").json()["status"] == "ready"
    api = make_api({"Model": Dead()})
    assert api("GET", "/readyz").status_code == 503
    assert api("GET", "/healthz").status_code == 200


def test_the_description_names_every_route_and_resolves_every_reference(api):
    document = api("GET", "/openapi.json").json()
    expected = {"infill", "inspect", "preview", "audio/{token}", "models", "comparisons", "judgments", "retractions"}
    assert {f"/v1/{name}" for name in expected} <= set(document["paths"])
    text = json.dumps(document)
    for reference in set(text.split('"$ref": "')[1:]):
        name = reference.split('"')[0].removeprefix("#/components/schemas/")
        assert name in document["components"]["schemas"]
    page = api("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/v1/comparisons" in page.text
    assert "://" not in page.text.replace("http://127.0.0.1", "")


def test_metrics_count_requests_by_route_and_status(make_api):
    api = make_api()
    api("POST", "/v1/infill", json=BODY)
    api("POST", "/v1/infill", json=BODY | {"region": {"bars": "900"}})
    api("GET", "/some/scanner/path")
    text = api("GET", "/metrics").text
    assert 'harmonixr:http_requests_total{path="/v1/infill",status="200"} 1.0' in text
    assert 'harmonixr:http_requests_total{path="/v1/infill",status="422"} 1.0' in text
    assert 'path="other",status="404"' in text
    assert "scanner" not in text
    assert "harmonixr:generation_tokens_total" in text
