"""The client retries where a retry is safe, and otherwise raises one kind of error."""

import json

import httpx
import pytest

from harmonixr_platform.client import Client, ServiceError
from harmonixr_platform.schemas import Choice, InfillResponse, JudgmentReceipt, RegionSpec

RESPONSE = InfillResponse(
    request_id="r", model_version="v", checkpoint_sha256="s", seed=1, candidates=(), timings_ms={}
).model_dump_json()
PROBLEM = {"type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": "bars 9-12 lie outside"}


class Script:
    """Responds from a list; records requests and pauses."""

    def __init__(self, *responses):
        self.responses = list(responses)
        self.requests = []
        self.pauses = []

    def __call__(self, request):
        self.requests.append(request)
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    def client(self, **options):
        return Client("http://service", transport=httpx.MockTransport(self), sleep=self.pauses.append, **options)


def fill(client):
    return client.infill(b"MThd", RegionSpec(bars="1"))


def test_a_busy_service_gets_a_retry_with_the_same_key_after_its_retry_after():
    script = Script(
        httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(503), httpx.Response(200, text=RESPONSE)
    )
    with script.client() as client:
        assert fill(client).model_version == "v"
    keys = {request.headers["Idempotency-Key"] for request in script.requests}
    assert len(script.requests) == 3
    assert len(keys) == 1
    assert script.pauses[0] == 7
    assert 0 < script.pauses[1] <= 1


def test_a_lost_connection_is_retried():
    script = Script(httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.Response(200, text=RESPONSE))
    with script.client() as client:
        assert fill(client).seed == 1


def test_a_refusal_is_not_retried_and_keeps_the_services_message():
    script = Script(httpx.Response(422, json=PROBLEM))
    with script.client() as client, pytest.raises(ServiceError, match="bars 9-12 lie outside") as refusal:
        fill(client)
    assert refusal.value.status == 422
    assert refusal.value.problem.title == "Unprocessable Content"
    assert len(script.requests) == 1


def test_it_gives_up_in_the_end_with_one_kind_of_error():
    script = Script(*(httpx.ConnectError("refused") for _ in range(3)))
    with script.client(attempts=3) as client, pytest.raises(ServiceError, match="harmonixr up"):
        fill(client)
    script = Script(*(httpx.Response(503, json=PROBLEM | {"status": 503}) for _ in range(3)))
    with script.client(attempts=3) as client, pytest.raises(ServiceError) as refusal:
        fill(client)
    assert refusal.value.status == 503


def test_a_response_without_a_problem_document_is_still_one_sentence():
    script = Script(*(httpx.Response(500, text="<html>Internal Server Error</html>") for _ in range(2)))
    with script.client(attempts=2) as client, pytest.raises(ServiceError, match="status 500"):
        fill(client)
    script = Script(httpx.Response(404, text="nothing here"))
    with script.client() as client, pytest.raises(ServiceError, match="status 404"):
        fill(client)


def test_an_error_of_a_proxy_is_retried_and_one_of_the_service_is_not():
    # After a replica died Serve responds in plain text; the graph itself responds with a problem.
    script = Script(httpx.Response(500, text="Internal Server Error"), httpx.Response(200, text=RESPONSE))
    with script.client() as client:
        assert fill(client).seed == 1
    script = Script(httpx.Response(500, json=PROBLEM | {"status": 500}))
    with script.client() as client, pytest.raises(ServiceError) as refusal:
        fill(client)
    assert refusal.value.status == 500


def test_a_service_that_once_responded_gets_more_attempts():
    script = Script(*(httpx.ConnectError("refused") for _ in range(8)))
    with script.client() as client, pytest.raises(ServiceError, match="harmonixr up"):
        fill(client)
    assert len(script.requests) == 4
    lost = [httpx.ConnectError("refused") for _ in range(6)]
    script = Script(httpx.Response(200, text=RESPONSE), *lost, httpx.Response(200, text=RESPONSE))
    with script.client() as client:
        assert [fill(client).seed, fill(client).seed] == [1, 1]


def test_a_response_of_another_version_is_refused():
    script = Script(httpx.Response(200, json={"surprise": 1}))
    with script.client() as client, pytest.raises(ServiceError, match="another version"):
        fill(client)


def test_a_judgment_sent_again_keeps_its_id():
    from datetime import UTC, datetime

    from harmonixr_platform.schemas import ComparisonView, SideView

    side = SideView(midi_base64="", notes=(), audio_url="/v1/audio/x")
    comparison = ComparisonView(
        comparison_id="c" * 32, token="t", expires=datetime.now(UTC), context_base64="", context_audio_url="",
        start_s=0, end_s=1, region=RegionSpec(bars="1"), a=side, b=side,
    )  # fmt: skip
    receipt = JudgmentReceipt(judgment_id="j", stored=True, duplicate=True, model_a="a", model_b="b")
    script = Script(httpx.ReadError("reset"), httpx.Response(201, text=receipt.model_dump_json()))
    with script.client() as client:
        assert client.judge(comparison, Choice.A, rater_key="a-long-key").duplicate
    ids = {json.loads(request.content)["judgment_id"] for request in script.requests}
    assert len(ids) == 1


def test_every_request_has_the_api_key():
    script = Script(httpx.Response(200, text=RESPONSE))
    with script.client(api_key="secret") as client:
        fill(client)
    assert script.requests[0].headers["Authorization"] == "Bearer secret"


def test_readiness_waits_for_a_graph_that_starts_but_not_for_one_without_a_model():
    problem = PROBLEM | {"status": 404, "detail": "no infill model is champion yet"}
    script = Script(
        httpx.ConnectError("refused"),
        httpx.Response(404, text="Path '/readyz' not found"),
        httpx.Response(503, json=PROBLEM),
        httpx.Response(200, json={"status": "ready"}),
        httpx.Response(404, json=problem, headers={"content-type": "application/problem+json"}),
    )
    with script.client() as client:
        assert [client.is_ready() for _ in range(4)] == [False, False, False, True]
        with pytest.raises(ServiceError, match="champion"):
            client.is_ready()
