"""What the ingress remembers for a while: answers by idempotency key, sounds by opaque token. Knows no route."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from harmonixr_platform.serving.errors import KeyReused

Value = TypeVar("Value")
_SEED_BYTES = 4


@dataclass(frozen=True, slots=True)
class _Remembered(Generic[Value]):
    digest: bytes
    answer: asyncio.Task[Value]


class AnswerMemory(Generic[Value]):
    """The same key and request give the same answer, even while the first is still being made."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[str, _Remembered[Value]] = OrderedDict()

    async def get_or_make(self, key: str | None, digest: bytes, make: Callable[[], Awaitable[Value]]) -> Value:
        """Return the remembered answer, or make it; failures are not remembered. Raises KeyReused."""
        if key is None or not self._capacity:
            return await make()
        held = self._held.get(key)
        if held and held.digest != digest:
            raise KeyReused("this Idempotency-Key came before with another request; send a new key")
        if held is None:
            held = self._held[key] = _Remembered(digest, asyncio.ensure_future(_awaited(make)))
            held.answer.add_done_callback(lambda answer: self._settle(key, answer))
        self._held.move_to_end(key)
        # Shielded: one caller who hangs up must not take the answer from others who wait for it.
        return await asyncio.shield(held.answer)

    def _settle(self, key: str, answer: asyncio.Task[Value]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            self._held.pop(key, None)
        while len(self._held) > self._capacity:
            self._held.popitem(last=False)


class SoundMemory(Generic[Value]):
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


def seed_for(key: str | None) -> int:
    """Return the seed of a request that gives none: fixed by its idempotency key, or drawn."""
    drawn = hashlib.sha256(key.encode()).digest() if key else secrets.token_bytes(_SEED_BYTES)
    return int.from_bytes(drawn[:_SEED_BYTES], "big")


async def _awaited(make: Callable[[], Awaitable[Value]]) -> Value:
    return await make()
