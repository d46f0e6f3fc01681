"""The embedded Redis: started once, shared, gone with its owner, and never short of an answered write."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.stores.errors import StoreUnavailable
from harmonixr_platform.stores.streams import RecordStream, is_responding

_APPEND = "return {redis.call('XADD', KEYS[1], '*', 'record', ARGV[1])}"
_OWNER = """
import sys, time
from pathlib import Path
from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]))
print(server.url(), flush=True)
time.sleep(60)
"""


def _process_id(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])  # type: ignore[index]


def _length(stream: RecordStream) -> int:
    return stream.backlog("none").length


def test_kill_9_loses_no_acknowledged_write_and_the_next_call_restarts_the_server(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        stream = RecordStream(server)
        for round_ in range(1, 4):
            for _ in range(20):
                stream.run_script(_APPEND, [stream.name], ["x"])
            os.kill(_process_id(server.url()), signal.SIGKILL)
            assert _length(stream) == 20 * round_


def test_a_second_user_of_the_folder_shares_the_server_and_does_not_stop_it(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as owner:
        url = owner.url()
        with EmbeddedRedis(tmp_path) as guest:
            assert guest.url() == url
        assert is_responding(url)
    assert not is_responding(url)


def test_many_threads_starting_at_once_get_one_server(tmp_path: Path) -> None:
    servers = [EmbeddedRedis(tmp_path) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        urls = set(pool.map(lambda server: server.url(), servers))
    for server in servers:
        server.stop()
    assert len(urls) == 1


def test_the_server_stops_when_its_owner_is_killed_and_a_restart_replays(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    url = owner.stdout.readline().strip()
    pid = _process_id(url)
    guest = EmbeddedRedis(tmp_path)
    stream = RecordStream(guest)
    stream.run_script(_APPEND, [stream.name], ["x"])
    owner.kill()
    owner.stdout.close()
    owner.wait()
    _wait_until(lambda: not Path(f"/proc/{pid}").exists() and not is_responding(url))
    assert _length(stream) == 1
    stream.close()


def test_a_server_that_hangs_is_never_joined_by_a_second_one(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, timeout_s=0.3) as server:
        pid = _process_id(server.url())
        os.kill(pid, signal.SIGSTOP)
        try:
            with (
                pytest.raises(StoreUnavailable, match="does not respond"),
                EmbeddedRedis(tmp_path, timeout_s=0.3) as other,
            ):
                other.url()
        finally:
            os.kill(pid, signal.SIGCONT)


def test_the_password_and_data_are_for_the_owner_alone(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        port = json.loads((server.folder / "server.json").read_text() if server.url() else "")["port"]
        for name in ("server.json", "redis.conf"):
            assert stat.S_IMODE((server.folder / name).stat().st_mode) == 0o600
        assert not is_responding(f"redis://127.0.0.1:{port}/0")


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "a") as first:
        port = int(first.url().rpartition(":")[2].partition("/")[0])
        with pytest.raises(StoreUnavailable, match=f"port {port} is taken"):
            EmbeddedRedis(tmp_path / "b", port=port).url()


def _wait_until(condition: object, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)
