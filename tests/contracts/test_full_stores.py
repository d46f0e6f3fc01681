"""A full store gives a clear error, loses no acknowledged data, and works again once there is space."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from botocore.exceptions import ClientError

from harmonixr_platform.stores.embedded_redis import EmbeddedRedis, server_binary
from harmonixr_platform.stores.errors import StoreFull, StoreUnavailable
from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.stores.s3 import S3Store
from harmonixr_platform.stores.streams import RecordStream

_APPEND = "return {redis.call('XADD', KEYS[1], '*', 'record', ARGV[1])}"
_BLOCK = 512


@contextmanager
def _no_file_above(size: int) -> Iterator[None]:
    """Let the kernel refuse to grow any file of this process past `size`, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _limited_server(folder: Path, size: int) -> str:
    """Return a redis-server whose files cannot grow past `size`, which gives it an error instead of a signal."""
    script = folder / "limited-redis"
    script.write_text(f"#!/bin/sh\ntrap '' XFSZ\nulimit -f {size // _BLOCK}\nexec {server_binary()} \"$@\"\n")
    script.chmod(0o755)
    return str(script)


def _fill(stream: RecordStream, *, most: int) -> tuple[int, StoreUnavailable]:
    """Append until the store refuses; return how many were acknowledged, and the refusal."""
    for acknowledged in range(most):
        try:
            stream.run_script(_APPEND, [stream.name], ["x" * 2000])
        except StoreUnavailable as error:
            return acknowledged, error
    raise AssertionError("the store was never full")


def test_a_full_redis_disk_is_reported_and_loses_no_acknowledged_write(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, binary=_limited_server(tmp_path, 64 * _BLOCK)) as server:
        stream = RecordStream(server)
        acknowledged, error = _fill(stream, most=100)
        assert acknowledged > 5
        assert isinstance(error, StoreFull)
        assert "free some space, no acknowledged data is lost" in str(error)
        # It can still be read, so that movers may carry away what waits.
        assert stream.backlog("g").length == acknowledged
        again, _ = _fill(stream, most=2)
        assert again == 0
    with EmbeddedRedis(tmp_path) as roomy:
        stream = RecordStream(roomy)
        stream.run_script(_APPEND, [stream.name], ["x"])
        assert stream.backlog("g").length == acknowledged + 1


def test_a_redis_out_of_memory_refuses_whole_scripts(tmp_path: Path) -> None:
    two = "redis.call('SET', KEYS[2], '1') return {redis.call('XADD', KEYS[1], '*', 'record', ARGV[1])}"
    with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url()) as client:
        stream = RecordStream(server)
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreFull, match="maxmemory"):
            stream.run_script(two, [stream.name, "half"], ["x"])
        client.config_set("maxmemory", 0)
        assert not client.exists("half")
        stream.run_script(two, [stream.name, "half"], ["x"])
        assert stream.backlog("g").length == 1


def test_a_full_object_disk_is_reported_and_leaves_no_partial_object(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.put("key", b"small")
    writes: list[Callable[[bytes], Any]] = [
        lambda data: store.put("key", data),
        lambda data: store.put_if_absent("other", data),
        lambda data: store.compare_and_swap("key", data, expected=store.get("key").version),
    ]
    for write in writes:
        with _no_file_above(4096), pytest.raises(StoreFull, match="is full"):
            write(b"x" * 10_000)
    assert store.list() == ("key",)
    assert store.get("key").data == b"small"
    assert list((tmp_path / ".drafts").iterdir()) == []
    writes[1](b"x" * 10_000)


@pytest.mark.parametrize(("status", "code"), [(507, "Whatever"), (403, "QuotaExceeded")])
def test_a_full_s3_server_is_distinguished_from_an_unavailable_one(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    store = S3Store("bucket", endpoint_url="http://127.0.0.1:9", access_key="a", secret_key="b")

    def refuse(*_: Any, **__: Any) -> None:
        raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")  # type: ignore[typeddict-item]

    monkeypatch.setattr(store._client, "put_object", refuse)
    with pytest.raises(StoreFull, match=code):
        store.put("key", b"")
