"""One answer while it is being made: any number may wait for it or follow it, and it ends when nobody does.

Knows nothing of what is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeAlias, TypeVar

Event = TypeVar("Event")
Answer = TypeVar("Answer")
Tell: TypeAlias = Callable[[Event], None]


class SharedTask(Generic[Event, Answer]):
    """A task that tells events and gives an answer. When the last who waits for it leaves, it is cancelled."""

    def __init__(self, make: Callable[[Tell[Event]], Awaitable[Answer]]) -> None:
        self._told: list[Event] = []
        self._changed = asyncio.Event()
        self._waiting = 0
        self._task = asyncio.ensure_future(self._run(make))
        self._task.add_done_callback(lambda task: self._changed.set())

    @property
    def is_given_up(self) -> bool:
        """Whether everybody left before it was done."""
        return self._task.cancelled() or self._task.cancelling() > 0

    def on_end(self, call: Callable[[asyncio.Task[Answer]], None]) -> None:
        """Have `call` called with the finished task."""
        self._task.add_done_callback(call)

    async def answer(self) -> Answer:
        """Return the answer; raises what the making raised."""
        self._waiting += 1
        try:
            # Shielded: one who hangs up must not take the answer from others who wait for it.
            return await asyncio.shield(self._task)
        finally:
            self._leave()

    async def follow(self) -> AsyncIterator[Event | Answer]:
        """Give all events, those of the past first, and last the answer; raises what the making raised."""
        self._waiting += 1
        place = 0
        try:
            while True:
                changed, is_done = self._changed, self._task.done()
                for event in self._told[place:]:
                    yield event
                    place += 1
                if is_done:
                    yield self._task.result()
                    return
                if place == len(self._told):
                    await changed.wait()
        finally:
            self._leave()

    async def _run(self, make: Callable[[Tell[Event]], Awaitable[Answer]]) -> Answer:
        return await make(self._tell)

    def _tell(self, event: Event) -> None:
        self._told.append(event)
        # Each event of asyncio wakes its waiters once: whoever comes later waits for the next.
        self._changed.set()
        self._changed = asyncio.Event()

    def _leave(self) -> None:
        self._waiting -= 1
        if not self._waiting and not self._task.done():
            self._task.cancel()
