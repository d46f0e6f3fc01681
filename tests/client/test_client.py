"""The client asks again where that is safe, and says what was wrong where it is not."""

import json

import httpx
import pytest

from harmonixr_platform.client import Client, ServiceError
from harmonixr_platform.schemas import Choice, InfillResponse, JudgmentReceipt, RegionSpec

ANSWER = InfillResponse(
    request_id="r", model_version="v", checkpoint_sha256="s", seed=1, candidates=(), timings_ms={}
).model_dump_json()
PROBLEM = {"type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": "bars 9-12 lie outside"}


class Script:
    """Answers requests from a list; keeps what was asked and how long was waited."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.pauses = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **options):
        return Client("http://service", transport=httpx.MockTransport(self), sleep=self.pauses.append, **options)


def fill(client):
    return client.infill(b"MThd", RegionSpec(bars="1"))


def test_a_busy_service_is_asked_again_with_the_same_key_after_the_time_it_named():
    script = Script(
        httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(503), httpx.Response(200, text=ANSWER)
    )
    with script.client() as client:
        assert fill(client).model_version == "v"
    keys = {request.headers["Idempotency-Key"] for request in script.requests}
    assert len(script.requests) == 3
    assert len(keys) == 1
    assert script.pauses[0] == 7
    assert 0 < script.pauses[1] <= 1


def test_a_lost_connection_is_made_again():
    script = Script(httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.Response(200, text=ANSWER))
    with script.client() as client:
        assert fill(client).seed == 1


def test_a_refusal_is_not_repeated_and_says_what_the_service_said():
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


def test_an_answer_that_is_no_problem_document_is_still_one_sentence():
    script = Script(*(httpx.Response(500, text="<html>Internal Server Error</html>") for _ in range(2)))
    with script.client(attempts=2) as client, pytest.raises(ServiceError, match="status 500"):
        fill(client)
    script = Script(httpx.Response(404, text="nothing here"))
    with script.client() as client, pytest.raises(ServiceError, match="status 404"):
        fill(client)


def test_a_fault_in_front_of_the_service_is_asked_again_and_one_of_its_own_is_not():
    # Serve answers for a replica that died, in plain text; the graph itself says what is wrong as a problem.
    script = Script(httpx.Response(500, text="Internal Server Error"), httpx.Response(200, text=ANSWER))
    with script.client() as client:
        assert fill(client).seed == 1
    script = Script(httpx.Response(500, json=PROBLEM | {"status": 500}))
    with script.client() as client, pytest.raises(ServiceError) as refusal:
        fill(client)
    assert refusal.value.status == 500


def test_a_service_that_once_answered_is_waited_for_longer_than_one_that_never_did():
    script = Script(*(httpx.ConnectError("refused") for _ in range(8)))
    with script.client() as client, pytest.raises(ServiceError, match="harmonixr up"):
        fill(client)
    assert len(script.requests) == 4
    lost = [httpx.ConnectError("refused") for _ in range(6)]
    script = Script(httpx.Response(200, text=ANSWER), *lost, httpx.Response(200, text=ANSWER))
    with script.client() as client:
        assert [fill(client).seed, fill(client).seed] == [1, 1]


def test_an_answer_of_another_protocol_is_refused():
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


def test_the_key_goes_with_every_request():
    script = Script(httpx.Response(200, text=ANSWER))
    with script.client(api_key="secret") as client:
        fill(client)
    assert script.requests[0].headers["Authorization"] == "Bearer secret"


def test_readiness_waits_for_a_graph_that_starts_and_gives_up_on_one_without_a_model():
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
