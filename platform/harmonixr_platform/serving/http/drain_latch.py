"""The door of an ingress: how many requests are inside, and when it is closed to new ones. For one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from harmonixr_platform.serving.errors import Unavailable

# The last bytes of an answer leave through a proxy after the application is done with it.
_SETTLE_S = 0.3


class DrainLatch:
    """Open until `drain`, which lets nobody in and returns when all have left."""

    def __init__(self) -> None:
        self._inside = 0
        self._is_closed = False
        self._left = asyncio.Event()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be inside for the length of the block; raises Unavailable when the door is closed."""
        if self._is_closed:
            raise Unavailable("the service is stopping; try again in a few seconds")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._left.set()

    async def drain(self) -> None:
        """Close the door and wait until everybody has left."""
        self._is_closed = True
        waited = self._inside > 0
        while self._inside:
            self._left.clear()
            await self._left.wait()
        if waited:
            await asyncio.sleep(_SETTLE_S)
