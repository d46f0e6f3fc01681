"""Count the requests in progress of an ingress, and refuse new ones while it drains. For one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from harmonixr_platform.serving.errors import Unavailable

# The last bytes of a response leave through a proxy after the application has finished it.
_SETTLE_S = 0.3


class DrainLatch:
    """Accepts requests until `drain`, which returns when the last one has finished."""

    def __init__(self) -> None:
        self._in_progress = 0
        self._is_draining = False
        self._finished = asyncio.Event()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count a request for the length of the block; raises Unavailable while draining."""
        if self._is_draining:
            raise Unavailable("the service is stopping; try again in a few seconds")
        self._in_progress += 1
        try:
            yield
        finally:
            self._in_progress -= 1
            self._finished.set()

    async def drain(self) -> None:
        """Refuse new requests and wait until all others have finished."""
        self._is_draining = True
        waited = self._in_progress > 0
        while self._in_progress:
            self._finished.clear()
            await self._finished.wait()
        if waited:
            await asyncio.sleep(_SETTLE_S)
