"""A task that several callers wait for or follow. It is cancelled when the last of them leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeAlias, TypeVar

Event = TypeVar("Event")
Result = TypeVar("Result")
Emit: TypeAlias = Callable[[Event], None]


class SharedTask(Generic[Event, Result]):
    """Runs `work`, which emits events and returns a result."""

    def __init__(self, work: Callable[[Emit[Event]], Awaitable[Result]]) -> None:
        self._events: list[Event] = []
        self._changed = asyncio.Event()
        self._callers = 0
        self._task = asyncio.ensure_future(self._run(work))
        self._task.add_done_callback(lambda task: self._changed.set())

    @property
    def is_abandoned(self) -> bool:
        """Whether all callers left before it was done."""
        return self._task.cancelled() or self._task.cancelling() > 0

    def add_done_callback(self, call: Callable[[asyncio.Task[Result]], None]) -> None:
        """Call `call` with the finished task."""
        self._task.add_done_callback(call)

    async def result(self) -> Result:
        """Return the result; raises the error of the work."""
        self._callers += 1
        try:
            # Shielded: a caller who hangs up must not cancel it for the others.
            return await asyncio.shield(self._task)
        finally:
            self._leave()

    async def follow(self) -> AsyncIterator[Event | Result]:
        """Yield all events from the first one on, then the result; raises the error of the work."""
        self._callers += 1
        place = 0
        try:
            while True:
                changed, is_done = self._changed, self._task.done()
                for event in self._events[place:]:
                    yield event
                    place += 1
                if is_done:
                    yield self._task.result()
                    return
                if place == len(self._events):
                    await changed.wait()
        finally:
            self._leave()

    async def _run(self, work: Callable[[Emit[Event]], Awaitable[Result]]) -> Result:
        return await work(self._emit)

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        # An asyncio.Event wakes its waiters once: later ones wait for the next.
        self._changed.set()
        self._changed = asyncio.Event()

    def _leave(self) -> None:
        self._callers -= 1
        if not self._callers and not self._task.done():
            self._task.cancel()
