"""The object store away, or a store full: votes are still answered or clearly refused, and everything catches up."""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from harmonixr_platform.feedback.records.mover import GROUP, Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.feedback.studies import presenter as presenting
from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.stores.errors import StoreFull, StoreUnavailable
from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.stores.objects import ObjectStore, StoredObject
from harmonixr_platform.stores.s3 import S3Store
from harmonixr_platform.stores.streams import RecordStream


class Wire:
    """Carries bytes between clients and a server, until it is cut: then every connection breaks."""

    def __init__(self, url: str) -> None:
        self._server = (urlsplit(url).hostname or "", urlsplit(url).port or 80)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self.is_cut = False
        self.refused = 0
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self.cut()
        # Wakes the thread that waits at the door.
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for end in self._ends:
            end.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            if self.is_cut:
                self.refused += 1
                client.close()
                continue
            server = socket.create_connection(self._server)
            self._ends += [client, server]
            for here, there in ((client, server), (server, client)):
                threading.Thread(target=_carry, args=(here, there), daemon=True).start()


def _carry(here: socket.socket, there: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := here.recv(65536):
            there.sendall(data)
    with contextlib.suppress(OSError):
        there.shutdown(socket.SHUT_RDWR)


def test_a_study_continues_while_the_object_store_is_unavailable(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(FileStore):
        is_away = False

        def get(self, key: str) -> StoredObject:
            return super().get(self._unless_away(key))

        def list(self, prefix: str = "") -> tuple[str, ...]:
            return super().list(self._unless_away(prefix))

        def _unless_away(self, key: str) -> str:
            if self.is_away:
                raise StoreUnavailable("the object store is away")
            return key

    store = Away(lab.store.root)
    lab.service = FeedbackService(lab.stream, store, secret=b"secret", now=lab.clock)
    lab.fill_pool(1)
    monkeypatch.setattr(presenting, "_CACHE_S", 0)
    answers = [lab.judge().judgment_id]
    store.is_away = True
    answers += [lab.judge().judgment_id for _ in range(3)]
    with pytest.raises(StoreUnavailable):
        lab.compare(pool="never-read")
    store.is_away = False
    Mover(lab.stream, store).run_once()
    assert _votes(store) == Counter(answers)


@pytest.fixture(params=["moto", pytest.param("s3", marks=pytest.mark.s3)])
def s3_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "s3":
        url = os.environ.get("HARMONIXR_TEST_S3_URL")
        if not url:
            pytest.skip("HARMONIXR_TEST_S3_URL names no S3 server")
        yield url
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def wire(s3_url: str) -> Iterator[Wire]:
    laid = Wire(s3_url)
    yield laid
    laid.close()


def test_an_s3_outage_loses_no_vote_and_the_mover_catches_up(
    lab: Any, wire: Wire, s3_url: str, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    away_s = 60 if request.node.callspec.params["s3_url"] == "s3" else 3
    store = _s3(wire.url)
    lab.service = FeedbackService(lab.stream, store, secret=b"secret", now=lab.clock)
    lab.fill_pool(2)
    views = [(lab.compare(f"rater-number-{i}"), f"rater-number-{i}") for i in range(12)]
    stop = threading.Event()
    mover = Mover(lab.stream, store, max_entries=4, dead_after_s=60)
    moving = threading.Thread(target=mover.run_forever, args=(stop,), kwargs={"interval_s": 0.1}, daemon=True)
    moving.start()
    acknowledged = [_vote(lab, *view) for view in views[:4]]
    _wait_until(lambda: lab.stream.backlog(GROUP).length == 0)

    wire.cut()
    acknowledged += [_vote(lab, *view) for view in views[4:]]
    gone = time.monotonic()
    _wait_until(lambda: "trying again" in caplog.text)
    while time.monotonic() < gone + away_s:
        time.sleep(0.1)
    backlog = lab.stream.backlog(GROUP)
    assert backlog.length == backlog.undelivered + backlog.pending == 8
    assert backlog.oldest_age_s >= away_s - 0.5
    failures = [message for record in caplog.records if "failed" in (message := record.getMessage())]
    assert all("does not respond" in message for message in failures)
    pauses = [record.pause_s for record in caplog.records if hasattr(record, "pause_s")]
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0] or len(pauses) == 1
    # Three tries a round and ever longer pauses, not a storm.
    assert wire.refused < 60

    wire.mend()
    _wait_until(lambda: lab.stream.backlog(GROUP).length == 0)
    stop.set()
    moving.join(30)
    assert _votes(_s3(s3_url, prefix=store.prefix.strip("/"))) == Counter(acknowledged)


def test_a_full_redis_refuses_a_vote_whole_and_takes_it_once_there_is_room(tmp_path: Path, lab: Any) -> None:
    with EmbeddedRedis(tmp_path / "state") as server, redis.Redis.from_url(server.url()) as client:
        stream = RecordStream(server)
        lab.service = FeedbackService(stream, lab.store, secret=b"secret", now=lab.clock)
        lab.fill_pool(1)
        before = lab.judge()
        Mover(stream, lab.store).run_once()
        view = lab.compare()
        answer = lab.judgment(view, "b")
        client.config_set("maxmemory", 1)
        for _ in range(3):
            with pytest.raises(StoreFull, match="no acknowledged data is lost"):
                lab.service.record_judgment(answer)
        with pytest.raises(StoreFull):
            lab.compare()
        tally = lab.service._log.tally("default")
        # What waits can be carried away, or there would never be room again.
        Mover(stream, lab.store).run_once()
        assert stream.backlog(GROUP).length == 0
        client.config_set("maxmemory", 0)
        assert tally == lab.service._log.tally("default")
        assert not lab.service.record_judgment(answer).duplicate
        assert lab.service.record_judgment(answer).duplicate
        Mover(stream, lab.store).run_once()
        assert _votes(lab.store) == Counter([before.judgment_id, answer.judgment_id])


def test_a_full_object_store_keeps_everything_in_the_stream(lab: Any) -> None:
    class Full(FileStore):
        def put_if_absent(self, key: str, data: bytes) -> str:
            raise StoreFull("the object store is full")

    lab.fill_pool(1)
    answers = [lab.judge().judgment_id for _ in range(3)]
    for _ in range(2):
        with pytest.raises(StoreFull):
            Mover(lab.stream, Full(lab.store.root)).run_once()
    assert lab.stream.backlog(GROUP).pending == 6
    assert _votes(lab.store) == Counter()
    Mover(lab.stream, lab.store).run_once()
    assert _votes(lab.store) == Counter(answers)


def _vote(lab: Any, view: Any, rater: str) -> str:
    answer = lab.judgment(view, rater=rater)
    deadline = time.monotonic() + 10
    while True:
        try:
            lab.service.record_judgment(answer)
        except StoreUnavailable:
            assert time.monotonic() < deadline
        else:
            return str(answer.judgment_id)


def _s3(url: str, *, prefix: str = "") -> S3Store:
    keys = os.environ.get("S3_ACCESS_KEY", "testaccess"), os.environ.get("S3_SECRET_KEY", "testsecret0123456789")
    prefix = prefix or f"run-{secrets.token_hex(6)}"
    store = S3Store("outages", prefix, endpoint_url=url, access_key=keys[0], secret_key=keys[1])
    store.create_bucket()
    return store


def _votes(store: ObjectStore) -> Counter[str]:
    return Counter(judged.judgment.judgment_id for judged in read_feedback(store).judged)


def _wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)
