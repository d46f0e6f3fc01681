"""The stream of a fill: every event once, also after a broken stream."""

import httpx
import pytest

from harmonixr_platform.client import Client, ServiceError
from harmonixr_platform.schemas import InfillAccepted, InfillBar, InfillDone, Problem, RegionSpec

ACCEPTED = InfillAccepted(request_id="r", model_version="v", seed=1, candidates=1)
BARS = [InfillBar(seed=1, candidate=0, bar=bar, track=1, notes=()) for bar in (5, 6)]
DONE = InfillDone(request_id="r", model_version="v", checkpoint_sha256="s", seed=1, timings_ms={})
BUSY = Problem(title="Service Unavailable", status=503, detail="a stage is restarting")
WRONG = Problem(title="Unprocessable Content", status=422, detail="the fill does not fit")


def block(name, event):
    return f"event: {name}\ndata: {event.model_dump_json()}\n\n"


START = block("accepted", ACCEPTED) + block("bar", BARS[0])
WHOLE = START + block("bar", BARS[1]) + block("done", DONE)


class Broken(httpx.SyncByteStream):
    """A body whose connection is lost after some text."""

    def __iter__(self):
        yield START.encode()
        raise httpx.ReadError("reset")


def listen(*responses, attempts=8):
    left, keys = list(responses), []

    def respond(request):
        keys.append(request.headers["Idempotency-Key"])
        assert request.headers["Accept"] == "text/event-stream"
        return left.pop(0)

    with Client("http://service", transport=httpx.MockTransport(respond), sleep=lambda _: None, attempts=attempts) as c:
        events = list(c.infill_stream(b"MThd", RegionSpec(bars="5-6")))
    assert len(set(keys)) == 1
    assert not left
    return events


def stream(text):
    return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})


def test_events_arrive_in_order_with_their_types():
    assert listen(stream(WHOLE)) == [ACCEPTED, *BARS, DONE]


def test_unknown_events_and_comments_are_ignored():
    assert listen(stream(": keep alive\n\nevent: chord\ndata: {}\n\n" + WHOLE)) == [ACCEPTED, *BARS, DONE]


@pytest.mark.parametrize(
    "broken",
    [
        httpx.Response(200, stream=Broken()),
        stream(START),
        stream(START + block("error", BUSY)),
        httpx.Response(500, text="Internal Server Error"),
        httpx.Response(429, json=BUSY.model_dump() | {"status": 429}),
    ],
    ids=["connection", "end", "restart", "replica", "busy"],
)
def test_a_broken_stream_continues_where_it_was(broken):
    assert listen(broken, stream(WHOLE)) == [ACCEPTED, *BARS, DONE]


def test_an_error_that_a_retry_cannot_help_is_raised():
    with pytest.raises(ServiceError, match="does not fit") as caught:
        listen(stream(START + block("error", WRONG)))
    assert caught.value.status == 422
    with pytest.raises(ServiceError, match="ended before"):
        listen(stream(START), stream(START), attempts=2)
