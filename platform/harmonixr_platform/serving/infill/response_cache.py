"""Caches in the memory of an ingress replica: responses by Idempotency-Key, sounds by opaque token."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from harmonixr_platform.serving.errors import KeyReused
from harmonixr_platform.serving.infill.shared_task import SharedTask

Value = TypeVar("Value")
Event = TypeVar("Event")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _CachedTask(Generic[Event, Result]):
    digest: str
    task: SharedTask[Event, Result]


class ResponseCache(Generic[Event, Result]):
    """The same key and request give the same response, also while the first request is still in progress."""

    def __init__(
        self, capacity: int, *, max_bytes: float = float("inf"), size_of: Callable[[Result], int] = lambda _: 0
    ) -> None:
        """Cache the latest `capacity` responses whose sizes add up to at most `max_bytes`."""
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._sizes: dict[str, int] = {}
        self._cached: OrderedDict[str, _CachedTask[Event, Result]] = OrderedDict()

    def get_or_start(
        self, key: str | None, digest: str, start: Callable[[], SharedTask[Event, Result]]
    ) -> SharedTask[Event, Result]:
        """Return the cached task, or start one; failures are not cached. Raises KeyReused."""
        if key is None or not self._capacity:
            return start()
        cached = self._cached.get(key)
        if cached and cached.digest != digest:
            raise key_reused()
        if cached is None or cached.task.is_abandoned:
            cached = self._cached[key] = _CachedTask(digest, start())
            cached.task.add_done_callback(partial(self._settle, key, cached))
        self._cached.move_to_end(key)
        return cached.task

    def _settle(self, key: str, cached: _CachedTask[Event, Result], done: asyncio.Task[Result]) -> None:
        if self._cached.get(key) is not cached:
            return
        if done.cancelled() or done.exception() is not None:
            del self._cached[key]
            return
        self._sizes[key] = self._size_of(done.result())
        while len(self._cached) > self._capacity or sum(self._sizes.values()) > self._max_bytes:
            oldest, _ = self._cached.popitem(last=False)
            self._sizes.pop(oldest, None)


class AudioCache(Generic[Value]):
    """The latest `capacity` values, under tokens that cannot be guessed."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._cached: OrderedDict[str, Value] = OrderedDict()

    def put(self, value: Value) -> str:
        """Cache a value; return its token."""
        token = secrets.token_urlsafe(18)
        self._cached[token] = value
        while len(self._cached) > self._capacity:
            self._cached.popitem(last=False)
        return token

    def get(self, token: str) -> Value | None:
        """Return the value, or None when the token is unknown or its value was dropped."""
        return self._cached.get(token)


def key_reused() -> KeyReused:
    """Return the error of a key that an earlier, different request used."""
    return KeyReused("this Idempotency-Key came before with another request; send a new key")
