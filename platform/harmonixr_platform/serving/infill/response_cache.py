"""What the ingress remembers for a while: answers by idempotency key, sounds by opaque token. Knows no route."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from harmonixr_platform.serving.errors import KeyReused
from harmonixr_platform.serving.infill.shared_task import SharedTask

Value = TypeVar("Value")
Event = TypeVar("Event")
Answer = TypeVar("Answer")
Weigh: TypeAlias = Callable[[Answer], int]
_SEED_BYTES = 4


@dataclass(frozen=True, slots=True)
class _Remembered(Generic[Event, Answer]):
    digest: str
    making: SharedTask[Event, Answer]


class ResponseCache(Generic[Event, Answer]):
    """The same key and request give the same answer, even while the first is still being made."""

    def __init__(self, capacity: int, *, max_weight: float = float("inf"), weigh: Weigh[Answer] | None = None) -> None:
        """Keep the latest `capacity` answers, and of these only so many that `weigh` adds up to `max_weight`."""
        self._capacity = capacity
        self._max_weight = max_weight
        self._weigh = weigh or (lambda answer: 0)
        self._weights: dict[str, int] = {}
        self._held: OrderedDict[str, _Remembered[Event, Answer]] = OrderedDict()

    def get_or_begin(
        self, key: str | None, digest: str, begin: Callable[[], SharedTask[Event, Answer]]
    ) -> SharedTask[Event, Answer]:
        """Return the remembered making, or begin one; failures are not remembered. Raises KeyReused."""
        if key is None or not self._capacity:
            return begin()
        held = self._held.get(key)
        if held and held.digest != digest:
            raise key_reused()
        if held is None or held.making.is_given_up:
            held = self._held[key] = _Remembered(digest, begin())
            held.making.on_end(partial(self._settle, key, held))
        self._held.move_to_end(key)
        return held.making

    def _settle(self, key: str, held: _Remembered[Event, Answer], ended: asyncio.Task[Answer]) -> None:
        if self._held.get(key) is not held:
            return
        if ended.cancelled() or ended.exception() is not None:
            del self._held[key]
            return
        self._weights[key] = self._weigh(ended.result())
        while len(self._held) > self._capacity or sum(self._weights.values()) > self._max_weight:
            oldest, _ = self._held.popitem(last=False)
            self._weights.pop(oldest, None)


class AudioCache(Generic[Value]):
    """Values under tokens that nobody can guess; the oldest go first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[str, Value] = OrderedDict()

    def put(self, value: Value) -> str:
        """Keep a value; return its token."""
        token = secrets.token_urlsafe(18)
        self._held[token] = value
        while len(self._held) > self._capacity:
            self._held.popitem(last=False)
        return token

    def get(self, token: str) -> Value | None:
        """Return the value, or None when it is unknown or was dropped."""
        return self._held.get(token)


def key_reused() -> KeyReused:
    """Return the error of a key that came before with another request."""
    return KeyReused("this Idempotency-Key came before with another request; send a new key")


def seed_for(key: str | None) -> int:
    """Return the seed of a request that gives none: fixed by its idempotency key, or drawn."""
    drawn = hashlib.sha256(key.encode()).digest() if key else secrets.token_bytes(_SEED_BYTES)
    return int.from_bytes(drawn[:_SEED_BYTES], "big")
