"""A durable stream of records in Redis, read by groups. The only module that imports redis; knows no record's meaning.

A write is answered after it is on disk (the server must run with its append-only file and `noeviction`:
`durability_faults` says whether it does). A call that raises StoreUnavailable may or may not have been carried out, so
every script run here must be idempotent.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harmonixr_platform.stores.errors import StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings

# One slot for all keys, so that a script may touch several of them on a cluster.
STREAM = "{harmonixr}:feedback"

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the stream. Ids grow with time and are never used twice."""

    entry_id: str
    record: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a group has yet to carry away: never delivered, delivered but not acknowledged, and the oldest's age."""

    length: int
    undelivered: int
    pending: int
    oldest_age_s: float


class Address(Protocol):
    """Where the server is; may start it."""

    def url(self) -> str:
        """Return the address of a server, or raise StoreUnavailable."""

    def stop(self) -> None:
        """Let go of the server, stopping it if it was started here."""

    def fault(self) -> StoreUnavailable | None:
        """Return why the server is away, where that can be known."""


@dataclass(frozen=True, slots=True)
class FixedAddress:
    """A server that somebody else runs."""

    address: str

    def url(self) -> str:
        """Return the address."""
        return self.address

    def stop(self) -> None:
        """Leave the server alone."""

    def fault(self) -> StoreUnavailable | None:
        """Return None: nothing is known of somebody else's server."""
        return None


class RecordStream:
    """One stream. Connects at the first call; safe to use from several threads."""

    def __init__(self, address: Address, *, name: str = STREAM, timeout_s: float = 2.0) -> None:
        self.name = name
        self._address = address
        self._timeout_s = timeout_s
        self._client: redis.Redis | None = None
        self._mutex = threading.Lock()

    def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[str]) -> list[Any]:
        """Run an idempotent Lua script; return its answer. It is on disk when this returns."""

        def call(client: redis.Redis) -> list[Any]:
            answer: list[Any] = client.register_script(script)(keys=keys, args=arguments)
            return answer

        return self._run(call)

    def read_hash(self, key: str) -> dict[str, str]:
        """Return the fields of a hash; empty when there is none."""
        return self._run(lambda client: dict(client.hgetall(key)))  # type: ignore[arg-type]

    def read_set(self, key: str) -> set[str]:
        """Return the members of a set."""
        return self._run(lambda client: set(client.smembers(key)))  # type: ignore[arg-type]

    def create_group(self, group: str) -> None:
        """Make the group, which reads from the stream's beginning; nothing happens when it exists."""

        def create(client: redis.Redis) -> None:
            # A full Redis refuses to make a group, even one that is there, and movers must be able to empty it.
            if self._group(client, group) is not None:
                return
            try:
                client.xgroup_create(self.name, group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

        self._run(create)

    def read_pending(self, group: str, consumer: str, *, count: int) -> list[Entry]:
        """Return entries delivered to this consumer before and not acknowledged, oldest first."""
        return self._read(group, consumer, "0", count)

    def read_new(self, group: str, consumer: str, *, count: int) -> list[Entry]:
        """Return entries never delivered to the group; they stay pending until acknowledged."""
        return self._read(group, consumer, ">", count)

    def claim(self, group: str, consumer: str, *, idle_s: float, count: int) -> list[Entry]:
        """Take over entries that other consumers left pending for at least `idle_s`."""
        idle_ms = int(idle_s * 1000)
        answer: Any = self._run(lambda client: client.xautoclaim(self.name, group, consumer, idle_ms, "0", count))
        return _entries(answer[1])

    def acknowledge(self, group: str, entries: Sequence[Entry]) -> None:
        """Say that these entries are safe elsewhere."""
        if entries:
            self._run(lambda client: client.xack(self.name, group, *(entry.entry_id for entry in entries)))

    def trim(self, group: str) -> int:
        """Drop what the group has acknowledged, and nothing above it; return how many entries went."""
        oldest = self._run(lambda client: self._first_needed(client, group))
        if oldest is None:
            return 0
        return self._run(lambda client: int(client.xtrim(self.name, minid=oldest, approximate=False)))

    def compact(self) -> None:
        """Have the append-only file written anew, without what was removed; nothing happens where that is refused."""

        def rewrite(client: redis.Redis) -> None:
            # Rented servers hide the command, and one rewriting at a time is enough.
            with contextlib.suppress(redis.ResponseError):
                client.bgrewriteaof()

        self._run(rewrite)

    def backlog(self, group: str) -> Backlog:
        """Return how far the group is behind."""

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
            # Redis 6 does not count what is undelivered. Acknowledged entries are trimmed: this is close, never less.
            undelivered = found.get("lag")
            undelivered = length - pending if undelivered is None else int(undelivered)
            waiting = [entry_id for entry_id, _ in first] + ([summary["min"]] if pending else [])
            age_s = max((_age_s(entry_id) for entry_id in waiting), default=0.0)
            return Backlog(length, undelivered if first else 0, pending, age_s)

        return self._run(measure)

    def durability_faults(self) -> list[str]:
        """Return what about the server could lose answered writes, one sentence each; empty when nothing could."""

        def inspect(client: redis.Redis) -> list[str]:
            faults = []
            for name, wanted in (("maxmemory-policy", "noeviction"), ("appendonly", "yes"), ("appendfsync", "always")):
                try:
                    answer: Any = client.config_get(name)
                except redis.ResponseError:
                    # Rented servers often hide their configuration.
                    return ["Redis does not show its configuration; make sure it keeps every write and evicts nothing"]
                if answer.get(name) != wanted:
                    faults.append(f"Redis has {name} {answer.get(name)!r}; set it to {wanted!r}")
            return faults

        return self._run(inspect)

    def close(self) -> None:
        """Close the connections; stops an embedded server that was started for this stream."""
        with self._mutex:
            client, self._client = self._client, None
        if client is not None:
            client.close()
        self._address.stop()

    def _read(self, group: str, consumer: str, after: str, count: int) -> list[Entry]:
        answer: Any = self._run(lambda client: client.xreadgroup(group, consumer, {self.name: after}, count=count))
        if not answer:
            return []
        batches = answer.values() if isinstance(answer, dict) else [batch for _, batch in answer]
        return [entry for batch in batches for entry in _entries(batch)]

    def _first_needed(self, client: redis.Redis, group: str) -> str | None:
        # The pending list is read after the last delivered id: an entry delivered in between is above the line.
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

    def _run(self, operation: Callable[[redis.Redis], _Answer]) -> _Answer:
        try:
            client = self._connected()
            try:
                return operation(client)
            except redis.TimeoutError:
                raise
            except redis.ConnectionError:
                # The server may have been restarted, an embedded one by our asking for its address.
                self._forget(client)
                return operation(self._connected())
        except redis.ConnectionError as error:
            raise self._address.fault() or _meaning(error) from error
        except redis.RedisError as error:
            raise _meaning(error) from error

    def _connected(self) -> redis.Redis:
        with self._mutex:
            if self._client is None:
                self._client = _client(self._address.url(), self._timeout_s)
            return self._client

    def _forget(self, client: redis.Redis) -> None:
        with self._mutex:
            if self._client is client:
                self._client = None
        # Other threads may be in the middle of a call on theirs: only idle connections are closed.
        client.connection_pool.disconnect(inuse_connections=False)


def open_stream(settings: Settings) -> RecordStream:
    """Return the stream that the settings name: a given Redis, or the embedded one."""
    return RecordStream(open_address(settings), timeout_s=settings.redis_timeout_s)


def open_address(settings: Settings) -> Address:
    """Return where Redis is; nothing is started yet."""
    if settings.redis_url:
        return FixedAddress(settings.redis_url)
    from harmonixr_platform.stores.embedded_redis import EmbeddedRedis

    return EmbeddedRedis(settings.state_dir, port=settings.redis_port, timeout_s=settings.redis_timeout_s)


def answers(url: str, *, timeout_s: float = 2.0) -> bool:
    """Return whether a server at this address takes commands."""
    client = _client(url, timeout_s)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def server_process_id(url: str, *, timeout_s: float = 2.0) -> int:
    """Return the process id of the server at this address; raise StoreUnavailable."""
    client = _client(url, timeout_s)
    try:
        info: Any = client.info("server")
        return int(info["process_id"])
    except redis.RedisError as error:
        raise _meaning(error) from error
    finally:
        client.close()


def _client(url: str, timeout_s: float) -> redis.Redis:
    # No retries of the client's own: they would hide for seconds that Redis is away.
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


def _entries(batch: Any) -> list[Entry]:
    # Redis 6 names entries that were deleted while pending, without fields.
    return [Entry(entry_id, fields.get("record", "")) for entry_id, fields in batch if fields]


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def _following(entry_id: str) -> str:
    milliseconds, sequence = _order(entry_id)
    return f"{milliseconds}-{sequence + 1}"


def _age_s(entry_id: str) -> float:
    return max(0.0, time.time() - _order(entry_id)[0] / 1000)


def _meaning(error: redis.RedisError) -> StoreUnavailable:
    if isinstance(error, redis.AuthenticationError):
        return StoreUnavailable("Redis refuses the password; correct HARMONIXR_REDIS_URL")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return StoreUnavailable("Redis does not answer; nothing was lost, try again shortly with the same id")
    # Redis 6 says both of these inside of what became of a script.
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "-OOM " in str(error):
        return StoreFull("Redis has used up its maxmemory; raise it, nothing that was acknowledged is lost")
    if "MISCONF" in str(error):
        return StoreFull("Redis cannot write to its disk; make room there, nothing that was acknowledged is lost")
    return StoreUnavailable(f"Redis refused: {error}")
