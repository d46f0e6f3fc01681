"""The page's seam to a fill that is still being made."""

import asyncio

import httpx
import pytest

from harmonixr_platform.client import Client, ServiceError
from harmonixr_platform.schemas import InfillAccepted, InfillBar, InfillDone, InfillRequest, Problem, RegionSpec
from harmonixr_ui.api import Api

ACCEPTED = InfillAccepted(request_id="r", model_version="v", seed=1, candidates=1)
BAR = InfillBar(seed=1, candidate=0, bar=5, track=1, notes=())
DONE = InfillDone(request_id="r", model_version="v", checkpoint_sha256="s", seed=1, timings_ms={})
WRONG = Problem(title="Unprocessable Content", status=422, detail="the fill does not fit")
REQUEST = InfillRequest(midi_base64="TVRoZA==", region=RegionSpec(bars="5"))


def block(name, event):
    return f"event: {name}\ndata: {event.model_dump_json()}\n\n"


def listen(text):
    api = Api("http://service")
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=text))
    api._connect = lambda: Client("http://service", transport=transport, attempts=1)

    async def run():
        heard = []
        try:
            async for event in api.infill_events(REQUEST):
                heard.append(event)
        except ServiceError as error:
            heard.append(error)
        return heard

    return asyncio.run(run())


def test_events_are_heard_in_order():
    text = block("accepted", ACCEPTED) + block("bar", BAR) + block("done", DONE)
    assert listen(text) == [ACCEPTED, BAR, DONE]


@pytest.mark.parametrize("end", [block("error", WRONG), ""])
def test_an_error_comes_after_what_was_heard(end):
    *heard, error = listen(block("accepted", ACCEPTED) + block("bar", BAR) + end)
    assert heard == [ACCEPTED, BAR]
    assert isinstance(error, ServiceError)
