"""`kill -9` of every process in turn, under votes over HTTP: what was answered 201 is read exactly once."""

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.stores.errors import StoreUnavailable
from harmonixr_platform.stores.streams import RecordStream, RedisServer

_API = """
import sys, uvicorn
from harmonixr_platform.serving.http.api import make_api
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.stages.feedback import Feedback
from harmonixr_platform.serving.infill.service import Service
from harmonixr_platform.serving.transport.stages import Stages, LocalCall
args = ServingArgs(mover_interval_s=0.5)
service = Service(Stages(LocalCall({"Feedback": Feedback(args)})), args)
uvicorn.run(make_api(service, args), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""
_MOVER = """
import threading
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.stores.connect import open_stream
settings = Settings()
mover = Mover(open_stream(settings), open_object_store(settings), consumer="other", max_entries=3, dead_after_s=0.2)
mover.run_forever(threading.Event(), interval_s=0.02)
"""
_PATIENCE_S = 120


class Plant:
    """Redis, the HTTP service and a mover, each a process of its own that is started again when it dies."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.settings = Settings(state_dir=state_dir)
        self.redis = EmbeddedRedis(state_dir)
        self.redis.url()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._sources = {"api": [_API, str(self.port)], "mover": [_MOVER]}
        self._running = {name: self._start(name) for name in self._sources}

    def kill(self, name: str) -> None:
        if name in ("redis", "redis's keeper"):
            server = self._redis_process()
            parent = int(re.search(r"PPid:\s+(\d+)", Path(f"/proc/{server}/status").read_text())[1])  # type: ignore[index]
            os.kill(server if name == "redis" else parent, signal.SIGKILL)
            return
        self._running[name].kill()
        self._running[name].wait()
        self._running[name] = self._start(name)

    def _redis_process(self) -> int:
        # Killed a moment ago, it may not answer yet.
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with redis.Redis.from_url(self.redis.url()) as client:
                    return int(client.info("server")["process_id"])
            except (StoreUnavailable, redis.RedisError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def died(self) -> list[str]:
        """Return which processes ended though nobody killed them."""
        return [name for name, process in self._running.items() if process.poll() is not None]

    def stop(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()
        self.redis.stop()

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"HARMONIXR_STATE_DIR": str(self.state_dir), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", *self._sources[name]], env=environment)


class Rater:
    """A client with an outbox: retries until there is a response, and records what was acknowledged with 201."""

    def __init__(self, url: str, acknowledged: list[str], taken_back: list[str]) -> None:
        self._http = httpx.Client(base_url=url, timeout=10, trust_env=False)
        self._acknowledged, self._taken_back = acknowledged, taken_back

    def vote(self, *, regrets: bool) -> None:
        rater = secrets.token_hex(8)
        view = self._send("/v1/comparisons", {"rater_key": rater, "pool": "default"})
        judgment_id = secrets.token_hex(8)
        same = {"comparison_id": view["comparison_id"], "token": view["token"], "rater_key": rater, "simulated": True}
        self._send("/v1/judgments", same | {"judgment_id": judgment_id, "choice": "a"})
        if regrets:
            self._send("/v1/retractions", {"judgment_id": judgment_id, "rater_key": rater})
            self._taken_back.append(judgment_id)
            judgment_id = secrets.token_hex(8)
            self._send("/v1/judgments", same | {"judgment_id": judgment_id, "choice": "b"})
        self._acknowledged.append(judgment_id)

    def close(self) -> None:
        self._http.close()

    def _send(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                response = self._http.post(path, json=body)
                if response.status_code == 201:
                    answer: dict[str, Any] = response.json()
                    return answer
                assert response.status_code in (429, 503, 507), response.text
            time.sleep(0.05)
        raise AssertionError(f"nobody answered {path} for {_PATIENCE_S} s")


@pytest.fixture
def any_address(address: RedisServer) -> RedisServer:
    """One is enough here: the processes have a Redis of their own."""
    return address


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    started = Plant(tmp_path_factory.mktemp("plant"))
    try:
        yield started
    finally:
        started.stop()


@pytest.mark.parametrize("victim", ["redis", "redis's keeper", "mover", "api"])
def test_kill_9_loses_no_acknowledged_vote_and_counts_none_twice(plant: Plant, lab: Any, victim: str) -> None:
    lab.service = FeedbackService(RecordStream(plant.redis), open_object_store(plant.settings), secret=b"unused")
    lab.fill_pool(2)
    url = f"http://127.0.0.1:{plant.port}"
    _wait_until(lambda: _answers(url))
    acknowledged: list[str] = []
    taken_back: list[str] = []
    failures: list[BaseException] = []

    def work(part: int) -> None:
        rater = Rater(url, acknowledged, taken_back)
        try:
            for number in range(8):
                rater.vote(regrets=(number + part) % 3 == 0)
        except BaseException as error:
            failures.append(error)
        finally:
            rater.close()

    raters = [threading.Thread(target=work, args=(part,), daemon=True) for part in range(3)]
    for thread in raters:
        thread.start()
    kills = 0
    while any(thread.is_alive() for thread in raters) and kills < 2:
        before = len(acknowledged)
        _wait_until(lambda: len(acknowledged) > before or not any(t.is_alive() for t in raters))  # noqa: B023
        plant.kill(victim)
        kills += 1
    for thread in raters:
        thread.join(_PATIENCE_S)
    assert not failures, failures
    assert kills >= 2
    assert plant.died() == []

    _wait_until(lambda: lab.service.backlog().length == 0)
    feedback = read_feedback(open_object_store(plant.settings))
    read = Counter(judged.judgment.judgment_id for judged in feedback.judged)
    assert len(acknowledged) == 24
    assert set(acknowledged) <= read.keys()
    assert not set(taken_back) & read.keys()
    assert set(read.values()) == {1}


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    return False


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
