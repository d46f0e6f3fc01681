"""Events of a fill as server-sent events: always exactly one `done` or `error` at the end.

What goes wrong before the first event is an ordinary answer with its status; later it is the `error` event.
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
    heard: Callable[[InfillEvent], None],
) -> StreamingResponse:
    """Return the answer that sends `events`; raises what goes wrong before the first.

    Args:
        events: what to send.
        problem: how an error reads that comes later.
        heard: called with each event that was sent.

    """
    first = await anext(events)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if isinstance(first, InfillAccepted):
        headers |= {"X-Harmonixr-Model-Version": first.model_version, "X-Harmonixr-Seed": str(first.seed)}

    async def send() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):  # type: ignore[type-var]  # an async generator, whose work ends when it is closed
            try:
                yield encode(_NAMES[type(first)], first)
                heard(first)
                async for event in events:
                    yield encode(_NAMES[type(event)], event)
                    heard(event)
            except Exception as error:
                yield encode("error", problem(error))

    return StreamingResponse(send(), media_type=SSE_TYPE, headers=headers)


def encode(name: str, data: BaseModel) -> bytes:
    """Return one event. JSON holds no line breaks, so one line of data carries it."""
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n".encode()
