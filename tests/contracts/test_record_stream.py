"""What the stream promises on the embedded server and on Debian's."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.stores.errors import StoreUnavailable
from harmonixr_platform.stores.streams import ExternalRedis, RecordStream

_APPEND = "return {redis.call('XADD', KEYS[1], '*', 'record', ARGV[1])}"


@pytest.fixture(params=["embedded", pytest.param("debian", marks=pytest.mark.redis)])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RecordStream]:
    name = f"test:{secrets.token_hex(6)}"
    if request.param == "embedded":
        stream = RecordStream(EmbeddedRedis(tmp_path), name=name)
    else:
        url = os.environ.get("HARMONIXR_TEST_REDIS_URL")
        if not url:
            pytest.skip("HARMONIXR_TEST_REDIS_URL names no Redis server")
        stream = RecordStream(ExternalRedis(url), name=name)
    yield stream
    stream.run_script("return {redis.call('DEL', KEYS[1])}", [name], [])
    stream.close()


def _append(stream: RecordStream, *records: str) -> None:
    for record in records:
        stream.run_script(_APPEND, [stream.name], [record])


def test_records_come_in_order_once_and_stay_pending_until_acknowledged(stream: RecordStream) -> None:
    stream.create_group("g")
    stream.create_group("g")
    _append(stream, "one", "two", "three")
    first = stream.read_new("g", "c", count=2)
    assert [e.record for e in first] == ["one", "two"]
    assert stream.read_pending("g", "c", count=9) == first
    assert [e.record for e in stream.read_new("g", "c", count=9)] == ["three"]
    assert stream.read_new("g", "c", count=9) == []
    stream.acknowledge("g", first)
    assert [e.record for e in stream.read_pending("g", "c", count=9)] == ["three"]


def test_a_group_made_late_reads_from_the_beginning(stream: RecordStream) -> None:
    _append(stream, "one")
    stream.create_group("g")
    assert [e.record for e in stream.read_new("g", "c", count=9)] == ["one"]


def test_another_consumer_claims_pending_entries(stream: RecordStream) -> None:
    stream.create_group("g")
    _append(stream, "one")
    left = stream.read_new("g", "dead", count=9)
    assert stream.claim("g", "heir", idle_s=60, count=9) == []
    assert stream.claim("g", "heir", idle_s=0, count=9) == left
    assert stream.read_pending("g", "heir", count=9) == left


def test_trim_deletes_acknowledged_entries_only(stream: RecordStream) -> None:
    stream.create_group("g")
    assert stream.trim("g") == 0
    _append(stream, "one", "two", "three", "four")
    entries = stream.read_new("g", "c", count=3)
    stream.acknowledge("g", [entries[0], entries[2]])
    assert stream.trim("g") == 1
    stream.acknowledge("g", [entries[1]])
    assert stream.trim("g") == 2
    assert [e.record for e in stream.read_new("g", "c", count=9)] == ["four"]


def test_the_backlog_counts_unprocessed_entries(stream: RecordStream) -> None:
    assert stream.backlog("g").length == 0
    _append(stream, "one", "two", "three")
    assert stream.backlog("g").undelivered == 3
    stream.create_group("g")
    entries = stream.read_new("g", "c", count=2)
    backlog = stream.backlog("g")
    assert (backlog.length, backlog.undelivered, backlog.pending) == (3, 1, 2)
    assert 0 <= backlog.oldest_age_s < 60
    stream.acknowledge("g", [*entries, *stream.read_new("g", "c", count=9)])
    stream.trim("g")
    backlog = stream.backlog("g")
    assert (backlog.length, backlog.undelivered, backlog.pending, backlog.oldest_age_s) == (0, 0, 0, 0.0)


def test_a_server_that_keeps_every_write_has_no_durability_fault(stream: RecordStream) -> None:
    assert stream.durability_faults() == []


def test_a_server_that_may_evict_is_reported(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        stream = RecordStream(server)
        with redis.Redis.from_url(server.url()) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        assert stream.durability_faults() == ["Redis has maxmemory-policy 'allkeys-lru'; set it to 'noeviction'"]


def test_an_unavailable_redis_gives_a_clear_error() -> None:
    stream = RecordStream(ExternalRedis("redis://127.0.0.1:9/0"), timeout_s=1)
    with pytest.raises(StoreUnavailable, match="does not respond"):
        stream.create_group("g")
