"""The service's client for the pages: asynchronous, with files as base64."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from harmonixr_platform.client import Client, ServiceError
from harmonixr_platform.schemas import (
    ComparisonRequest,
    ComparisonView,
    InfillEvent,
    InfillRequest,
    InspectResponse,
    JudgmentReceipt,
    JudgmentRequest,
    PreviewRequest,
    RetractionReceipt,
    RetractionRequest,
)

Result = TypeVar("Result")

# A person waits in front of the page: report a failure soon instead of retrying for long.
_ATTEMPTS = 2


class Api:
    """The service at an address. Every method raises ServiceError where a request fails."""

    def __init__(self, base_url: str, *, api_key: str | None = None) -> None:
        self._connect: Callable[[], Client] = lambda: Client(base_url, api_key=api_key, attempts=_ATTEMPTS)

    async def inspect(self, midi_base64: str) -> InspectResponse:
        """Return bars, tracks and notes of a MIDI file."""
        return await self._call(lambda client: client.inspect(base64.b64decode(midi_base64)))

    async def infill_events(self, request: InfillRequest) -> AsyncIterator[InfillEvent]:
        """Yield the events of a fill while it is made. Closing the iterator cancels the fill."""
        loop, events = asyncio.get_running_loop(), asyncio.Queue[InfillEvent | ServiceError | None]()
        is_closed = threading.Event()

        def read() -> None:
            with self._connect() as client:
                stream = client.infill_stream(
                    base64.b64decode(request.midi_base64),
                    request.region,
                    controls=request.controls,
                    sampling=request.sampling,
                    model=request.model,
                )
                last: ServiceError | None = None
                try:
                    for event in stream:
                        if is_closed.is_set():
                            return
                        loop.call_soon_threadsafe(events.put_nowait, event)
                except ServiceError as error:
                    last = error
                loop.call_soon_threadsafe(events.put_nowait, last)

        reading = asyncio.ensure_future(asyncio.to_thread(read))
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, ServiceError):
                    raise event
                yield event
            await reading
        finally:
            is_closed.set()

    async def compare(self, request: ComparisonRequest) -> ComparisonView:
        """Return a blind pair."""
        return await self._call(
            lambda client: client.compare(request.rater_key, pool=request.pool, infill=request.infill)
        )

    async def judge(self, request: JudgmentRequest) -> JudgmentReceipt:
        """Record a judgment; it is on the service's disk when this returns."""
        return await self._call(lambda client: client.send_judgment(request))

    async def retract(self, request: RetractionRequest) -> RetractionReceipt:
        """Retract a judgment; the retraction is on the service's disk when this returns."""
        return await self._call(lambda client: client.retract(request.judgment_id, rater_key=request.rater_key))

    async def preview(self, request: PreviewRequest) -> bytes:
        """Return a stretch of a file as WAV."""
        midi = base64.b64decode(request.midi_base64)
        return await self._call(lambda client: client.preview(midi, start_s=request.start_s, end_s=request.end_s))

    async def leaderboard_page(self, study: str | None) -> str:
        """Return the leaderboard as an HTML page."""
        return await self._call(lambda client: client.leaderboard_page(study=study))

    async def sound(self, token: str) -> bytes:
        """Return the WAV file of a token."""
        return await self._call(lambda client: client.sound(f"/v1/audio/{token}"))

    async def _call(self, use: Callable[[Client], Result]) -> Result:
        def once() -> Result:
            with self._connect() as client:
                return use(client)

        return await asyncio.to_thread(once)


def sentence(error: ServiceError) -> str:
    """Return the message of an error as a sentence to show."""
    message = str(error)
    return message[:1].upper() + message[1:]
