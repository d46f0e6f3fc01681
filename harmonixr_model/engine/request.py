"""The handle of a submitted prompt: its events, its result and its cancellation.

It is safe from any thread, and can be awaited from any event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from harmonixr_model.engine.engine import GeneratedFill
from harmonixr_model.music.score import Note
from harmonixr_model.prompt.fill_tokens import decode_cell
from harmonixr_model.prompt.layout import InfillPrompt

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CellFinished:
    """A candidate has finished a cell; `tokens` include its header and END."""

    candidate: int
    cell: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CandidateFinished:
    """A candidate is complete."""

    candidate: int
    generated: GeneratedFill


@dataclass(frozen=True, slots=True)
class Finished:
    """All candidates are complete. This is the last event."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The request has failed. This is the last event."""

    error: Exception


Event: TypeAlias = CellFinished | CandidateFinished | Finished | Failed
Listener: TypeAlias = Callable[[Event], None]


def notes_of(prompt: InfillPrompt, event: CellFinished) -> tuple[Note, ...]:
    """Return the notes of a finished cell, in absolute steps, as `decode_fill` gives them."""
    return decode_cell(prompt, event.cell, event.tokens[len(prompt.headers[event.cell]) : -1])


class RequestHandle:
    """One submitted prompt and its candidates. The engine calls `emit`; callers use the other methods."""

    def __init__(self, candidates: int) -> None:
        self.candidates = candidates
        self._events: list[Event] = []
        self._listeners: list[Listener] = []
        self._wakers: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._cancelled = threading.Event()

    @property
    def has_ended(self) -> bool:
        """Whether the last event has been emitted."""
        return self._ended.is_set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the request was cancelled."""
        return self._cancelled.is_set()

    @property
    def has_listeners(self) -> bool:
        """Whether a listener receives the events as they are emitted."""
        return bool(self._listeners)

    def cancel(self) -> None:
        """Cancel the request: it fails with FillCancelled, and its rows are free from the next step on."""
        self._cancelled.set()

    def result(self, timeout_s: float | None = None) -> list[GeneratedFill]:
        """Wait and return one fill a seed, in order; raises the error of a failed request, or TimeoutError."""
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"no result within {timeout_s} s")
        with self._lock:
            last = self._events[-1]
            if isinstance(last, Failed):
                raise last.error
            finished = {e.candidate: e.generated for e in self._events if isinstance(e, CandidateFinished)}
        return [finished[candidate] for candidate in range(self.candidates)]

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event, past events first; return a function that removes the listener.

        The call is made in the engine's thread, so it must be quick. A listener that raises is removed.
        """
        with self._lock:
            for event in self._events:
                listener(event)
            self._listeners.append(listener)

        def remove() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return remove

    async def events(self) -> AsyncIterator[Event]:
        """Yield every event as it is emitted, up to and including Finished or Failed."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event]()
        remove = self.listen(lambda event: _put(loop, queue, event))
        try:
            while True:
                event = await queue.get()
                yield event
                if isinstance(event, Finished | Failed):
                    return
        finally:
            remove()

    async def wait(self) -> list[GeneratedFill]:
        """Await `result`; cancels the request when the awaiting task is cancelled."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        # Wake the event loop once: each wake-up takes the interpreter lock from the engine's thread.
        self._wakers.append(lambda: loop.call_soon_threadsafe(ended.set))
        try:
            if not self.has_ended:
                await ended.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self.result(0)

    def emit(self, event: Event) -> None:
        """Record an event and pass it to the listeners."""
        with self._lock:
            self._events.append(event)
            for listener in list(self._listeners):
                try:
                    listener(event)
                except Exception:
                    _log.warning("a listener failed and was removed", exc_info=True)
                    self._listeners.remove(listener)
        if isinstance(event, Finished | Failed):
            self._ended.set()
            for wake in self._wakers:
                with suppress(RuntimeError):  # its event loop has ended
                    wake()


def _put(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Event], event: Event) -> None:
    loop.call_soon_threadsafe(queue.put_nowait, event)
