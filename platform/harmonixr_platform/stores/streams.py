"""A durable stream of records in Redis, read by consumer groups. The only module that imports redis.

A write returns after it is on disk, if the server uses an append-only file and `noeviction` (`durability_faults` checks
this). A call that raises StoreUnavailable may or may not have taken effect, so every script must be idempotent.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harmonixr_platform.stores.errors import StoreFull, StoreUnavailable

# The braces put all keys into one slot, so that a script may use several of them on a cluster.
STREAM = "{harmonixr}:feedback"

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One record of the stream. Ids grow with time and are never reused."""

    entry_id: str
    record: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """A group's unprocessed entries: never delivered, delivered but not acknowledged, and the age of the oldest."""

    length: int
    undelivered: int
    pending: int
    oldest_age_s: float


class RedisServer(Protocol):
    """A Redis server, external or embedded."""

    def url(self) -> str:
        """Return the server's address, starting an embedded server if needed; raise StoreUnavailable."""

    def stop(self) -> None:
        """Stop the server if this object started it."""

    def failure(self) -> StoreUnavailable | None:
        """Return the reason why the server ended, if it is known."""


@dataclass(frozen=True, slots=True)
class ExternalRedis:
    """A server that is started and stopped elsewhere."""

    address: str

    def url(self) -> str:
        """Return the address."""
        return self.address

    def stop(self) -> None:
        """Do nothing."""

    def failure(self) -> StoreUnavailable | None:
        """Return None."""
        return None


class RecordStream:
    """One stream. Connects at the first call; thread-safe."""

    def __init__(self, server: RedisServer, *, name: str = STREAM, timeout_s: float = 2.0) -> None:
        self.name = name
        self._server = server
        self._timeout_s = timeout_s
        self._client: redis.Redis | None = None
        self._mutex = threading.Lock()

    def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[str]) -> list[Any]:
        """Run an idempotent Lua script; return its result. Its writes are on disk when this returns."""
        return self._run(lambda client: client.register_script(script)(keys=keys, args=arguments))

    def read_hash(self, key: str) -> dict[str, str]:
        """Return the fields of a hash, empty if it does not exist."""
        return self._run(lambda client: dict(client.hgetall(key)))  # type: ignore[arg-type]

    def create_group(self, group: str) -> None:
        """Create the group, reading from the beginning of the stream, unless it exists."""

        def create(client: redis.Redis) -> None:
            # A full Redis refuses to create a group, even an existing one, and movers must be able to empty it.
            if self._group(client, group) is not None:
                return
            try:
                client.xgroup_create(self.name, group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

        self._run(create)

    def read_pending(self, group: str, consumer: str, *, count: int) -> list[StreamEntry]:
        """Return entries that were delivered to this consumer but not acknowledged, oldest first."""
        return self._read(group, consumer, "0", count)

    def read_new(self, group: str, consumer: str, *, count: int) -> list[StreamEntry]:
        """Return entries that were never delivered to the group; they are pending until acknowledged."""
        return self._read(group, consumer, ">", count)

    def claim(self, group: str, consumer: str, *, idle_s: float, count: int) -> list[StreamEntry]:
        """Take over entries that have been pending with other consumers for at least `idle_s`."""
        idle_ms = int(idle_s * 1000)
        response: Any = self._run(lambda client: client.xautoclaim(self.name, group, consumer, idle_ms, "0", count))
        return _entries(response[1])

    def acknowledge(self, group: str, entries: Sequence[StreamEntry]) -> None:
        """Mark these entries as processed by the group."""
        if entries:
            self._run(lambda client: client.xack(self.name, group, *(entry.entry_id for entry in entries)))

    def trim(self, group: str) -> int:
        """Delete the entries that the group has acknowledged; return how many were deleted."""
        oldest = self._run(lambda client: self._first_needed(client, group))
        if oldest is None:
            return 0
        return self._run(lambda client: int(client.xtrim(self.name, minid=oldest, approximate=False)))

    def compact(self) -> None:
        """Rewrite the append-only file without deleted data; do nothing if the server refuses."""

        def rewrite(client: redis.Redis) -> None:
            # Managed servers disable the command, and only one rewrite may run at a time.
            with contextlib.suppress(redis.ResponseError):
                client.bgrewriteaof()

        self._run(rewrite)

    def backlog(self, group: str) -> Backlog:
        """Return the group's unprocessed entries."""

        def measure(client: redis.Redis) -> Backlog:
            length = int(client.xlen(self.name))
            first: Any
            found = self._group(client, group)
            if found is None:
                first = client.xrange(self.name, count=1)
                return Backlog(length, length, 0, _age_s(first[0][0]) if first else 0.0)
            first = client.xrange(self.name, min=_following(found["last-delivered-id"]), count=1)
            summary: Any = client.xpending(self.name, group)
            pending = int(summary["pending"])
            # Redis 6 reports no lag. Acknowledged entries are trimmed, so this estimate is close and never too low.
            undelivered = found.get("lag")
            undelivered = length - pending if undelivered is None else int(undelivered)
            waiting = [entry_id for entry_id, _ in first] + ([summary["min"]] if pending else [])
            age_s = max((_age_s(entry_id) for entry_id in waiting), default=0.0)
            return Backlog(length, undelivered if first else 0, pending, age_s)

        return self._run(measure)

    def durability_faults(self) -> list[str]:
        """Return one sentence for each server setting that could lose acknowledged writes."""

        def inspect(client: redis.Redis) -> list[str]:
            faults = []
            for name, wanted in (("maxmemory-policy", "noeviction"), ("appendonly", "yes"), ("appendfsync", "always")):
                try:
                    settings: Any = client.config_get(name)
                except redis.ResponseError:
                    # Managed servers often hide their configuration.
                    return ["Redis does not show its configuration; make sure it keeps every write and evicts nothing"]
                if settings.get(name) != wanted:
                    faults.append(f"Redis has {name} {settings.get(name)!r}; set it to {wanted!r}")
            return faults

        return self._run(inspect)

    def close(self) -> None:
        """Close the connections and stop the embedded server if this stream started it."""
        with self._mutex:
            client, self._client = self._client, None
        if client is not None:
            client.close()
        self._server.stop()

    def _read(self, group: str, consumer: str, after: str, count: int) -> list[StreamEntry]:
        response: Any = self._run(lambda client: client.xreadgroup(group, consumer, {self.name: after}, count=count))
        if not response:
            return []
        batches = response.values() if isinstance(response, dict) else [batch for _, batch in response]
        return [entry for batch in batches for entry in _entries(batch)]

    def _first_needed(self, client: redis.Redis, group: str) -> str | None:
        # Read the pending list after the last delivered id: an entry delivered in between has a larger id.
        found = self._group(client, group)
        if found is None:
            return None
        summary: Any = client.xpending(self.name, group)
        below = _following(found["last-delivered-id"])
        return min(below, summary["min"], key=_order) if summary["pending"] else below

    def _group(self, client: redis.Redis, group: str) -> dict[str, Any] | None:
        if not client.exists(self.name):
            return None
        groups: Any = client.xinfo_groups(self.name)
        return next((found for found in groups if found["name"] == group), None)

    def _run(self, operation: Callable[[redis.Redis], _Result]) -> _Result:
        try:
            client = self._connected()
            try:
                return operation(client)
            except redis.TimeoutError:
                raise
            except redis.ConnectionError:
                # The server may have been restarted; `url()` restarts an embedded one.
                self._forget(client)
                return operation(self._connected())
        except redis.ConnectionError as error:
            raise self._server.failure() or _store_error(error) from error
        except redis.RedisError as error:
            raise _store_error(error) from error

    def _connected(self) -> redis.Redis:
        with self._mutex:
            if self._client is None:
                self._client = _client(self._server.url(), self._timeout_s)
            return self._client

    def _forget(self, client: redis.Redis) -> None:
        with self._mutex:
            if self._client is client:
                self._client = None
        # Close idle connections only: other threads may be using the rest.
        client.connection_pool.disconnect(inuse_connections=False)


def is_responding(url: str, *, timeout_s: float = 2.0) -> bool:
    """Return whether a server at this address accepts commands."""
    client = _client(url, timeout_s)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _client(url: str, timeout_s: float) -> redis.Redis:
    # Without the client's own retries, which would hide an outage for seconds.
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


def _entries(batch: Any) -> list[StreamEntry]:
    # Redis 6 lists entries that were deleted while pending, without fields.
    return [StreamEntry(entry_id, fields.get("record", "")) for entry_id, fields in batch if fields]


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def _following(entry_id: str) -> str:
    milliseconds, sequence = _order(entry_id)
    return f"{milliseconds}-{sequence + 1}"


def _age_s(entry_id: str) -> float:
    return max(0.0, time.time() - _order(entry_id)[0] / 1000)


def _store_error(error: redis.RedisError) -> StoreUnavailable:
    if isinstance(error, redis.AuthenticationError):
        return StoreUnavailable("Redis refuses the password; correct HARMONIXR_REDIS_URL")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return StoreUnavailable("Redis does not respond; nothing was lost, try again shortly with the same id")
    # Redis 6 reports both of these inside a script error.
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "-OOM " in str(error):
        return StoreFull("Redis has reached its maxmemory; raise it, no acknowledged data is lost")
    if "MISCONF" in str(error):
        return StoreFull("Redis cannot write to its disk; free some space, no acknowledged data is lost")
    return StoreUnavailable(f"Redis refused: {error}")
