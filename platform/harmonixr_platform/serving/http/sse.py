"""Events of a fill as server-sent events, always with exactly one `done` or `error` at the end.

An error before the first event is an ordinary response with its status; a later one is the `error` event.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from pydantic import BaseModel
from starlette.responses import StreamingResponse

from harmonixr_platform.schemas import INFILL_EVENTS, InfillAccepted, InfillEvent, Problem

SSE_TYPE = "text/event-stream"
_NAMES = {kind: name for name, kind in INFILL_EVENTS.items()}


async def event_stream(
    events: AsyncIterator[InfillEvent],
    *,
    problem: Callable[[Exception], Problem],
    on_sent: Callable[[InfillEvent], None],
) -> StreamingResponse:
    """Return the response that sends `events`; raises an error that comes before the first event.

    Args:
        events: the events to send.
        problem: converts an error that comes later.
        on_sent: called with each event after it was sent.

    """
    first = await anext(events)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if isinstance(first, InfillAccepted):
        headers |= {"X-Harmonixr-Model-Version": first.model_version, "X-Harmonixr-Seed": str(first.seed)}

    async def send() -> AsyncGenerator[bytes, None]:
        # Closing the generator cancels its fill.
        async with aclosing(events):  # type: ignore[type-var]  # an async generator
            try:
                yield encode(_NAMES[type(first)], first)
                on_sent(first)
                async for event in events:
                    yield encode(_NAMES[type(event)], event)
                    on_sent(event)
            except Exception as error:
                yield encode("error", problem(error))

    return StreamingResponse(send(), media_type=SSE_TYPE, headers=headers)


def encode(name: str, data: BaseModel) -> bytes:
    """Return one event. JSON has no line breaks, so one line of data holds it."""
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n".encode()
