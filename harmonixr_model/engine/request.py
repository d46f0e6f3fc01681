"""A request as its asker holds it: what has happened so far, what comes, and the way to give it up.

Safe from any thread; awaited from any event loop. Knows nothing of models.
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
    """A candidate has said all of a cell: `tokens` are the cell's, its header and END included."""

    candidate: int
    cell: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CandidateFinished:
    """A candidate is whole."""

    candidate: int
    generated: GeneratedFill


@dataclass(frozen=True, slots=True)
class Finished:
    """Every candidate is whole; nothing follows."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The request ends without an answer; nothing follows."""

    error: Exception


Event: TypeAlias = CellFinished | CandidateFinished | Finished | Failed
Listener: TypeAlias = Callable[[Event], None]


def notes_of(prompt: InfillPrompt, event: CellFinished) -> tuple[Note, ...]:
    """Return the notes of a decided cell, in absolute steps, as `decode_fill` will give them."""
    said = event.tokens[len(prompt.headers[event.cell]) : -1]
    return decode_cell(prompt, event.cell, said)


class RequestHandle:
    """One submitted prompt and its candidates. The engine calls `emit`; everyone else the rest."""

    def __init__(self, candidates: int) -> None:
        self.candidates = candidates
        self._events: list[Event] = []
        self._listeners: list[Listener] = []
        self._waiting: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._cancelled = threading.Event()

    @property
    def is_over(self) -> bool:
        """Whether the last event has happened."""
        return self._over.is_set()

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody gave the request up."""
        return self._cancelled.is_set()

    @property
    def has_listeners(self) -> bool:
        """Whether anybody listens to events as they happen."""
        return bool(self._listeners)

    def cancel(self) -> None:
        """Give the request up: its rows are free from the next step on, and it fails with FillCancelled."""
        self._cancelled.set()

    def result(self, timeout_s: float | None = None) -> list[GeneratedFill]:
        """Wait and return one fill a seed, in order; raises what the request failed with, TimeoutError in between."""
        if not self._over.wait(timeout_s):
            raise TimeoutError(f"no answer within {timeout_s} s")
        with self._lock:
            last = self._events[-1]
            if isinstance(last, Failed):
                raise last.error
            finished = {e.candidate: e.generated for e in self._events if isinstance(e, CandidateFinished)}
        return [finished[candidate] for candidate in range(self.candidates)]

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event, those of the past first; return what ends that.

        Called in the engine's thread: it must be quick. One that raises is called no more.
        """
        with self._lock:
            for event in self._events:
                listener(event)
            self._listeners.append(listener)

        def forget() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return forget

    async def events(self) -> AsyncIterator[Event]:
        """Give every event as it happens, up to and including Finished or Failed."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event]()
        forget = self.listen(lambda event: _put(loop, queue, event))
        try:
            while True:
                event = await queue.get()
                yield event
                if isinstance(event, Finished | Failed):
                    return
        finally:
            forget()

    async def wait(self) -> list[GeneratedFill]:
        """Return what `result` returns without blocking the event loop; cancels the request when cancelled itself."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        # Of all events only the last: each wakes the loop's thread, and keeps the engine's from the interpreter.
        self._waiting.append(lambda: loop.call_soon_threadsafe(over.set))
        try:
            if not self.is_over:
                await over.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self.result(0)

    def emit(self, event: Event) -> None:
        """Take note of an event and pass it on."""
        with self._lock:
            self._events.append(event)
            for listener in list(self._listeners):
                try:
                    listener(event)
                except Exception:
                    _log.warning("a listener failed and is called no more", exc_info=True)
                    self._listeners.remove(listener)
        if isinstance(event, Finished | Failed):
            self._over.set()
            for wake in self._waiting:
                with suppress(RuntimeError):  # its event loop has ended
                    wake()


def _put(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Event], event: Event) -> None:
    loop.call_soon_threadsafe(queue.put_nowait, event)
