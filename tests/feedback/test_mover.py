"""What movers carry and what readers make of it. What happens when something dies is in test_durability.py."""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from harmonixr_platform.feedback.records.mover import GROUP, MANIFESTS, SEGMENTS, Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.schemas import Flag, Tombstone
from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.stores.errors import StoreError, StoreUnavailable
from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.stores.streams import RecordStream


def _votes(store: ObjectStore) -> Counter[str]:
    return Counter(judged.judgment.judgment_id for judged in read_feedback(store).judged)


def test_moved_judgments_are_read_back_with_their_pairs(lab: Any) -> None:
    pairs = {pair.pair_id: pair for pair in lab.fill_pool(3)}
    answers = [lab.judge(choice) for choice in ("a", "b", "tie")]
    mover = Mover(lab.stream, lab.store)
    assert mover.run_once() == 6
    assert mover.run_once() == 0
    feedback = read_feedback(lab.store)
    assert [j.judgment.judgment_id for j in feedback.judged] == [a.judgment_id for a in answers]
    for judged, answer in zip(feedback.judged, answers, strict=True):
        assert judged.pair == pairs[judged.comparison.pair_id]
        assert judged.judgment.choice == answer.choice
    backlog = lab.stream.backlog(GROUP)
    assert (backlog.length, backlog.undelivered, backlog.pending) == (0, 0, 0)


def test_the_outcome_does_not_depend_on_the_sides(lab: Any) -> None:
    (pair,) = lab.fill_pool(1)
    for _ in range(8):
        view = lab.compare()
        first_is_a = view.a.midi_base64 == pair.first.midi_base64
        lab.service.record_judgment(lab.judgment(view, "a" if first_is_a else "b"))
    Mover(lab.stream, lab.store).run_once()
    judged = read_feedback(lab.store).judged
    assert [j.outcome for j in judged] == ["first"] * 8
    assert {j.comparison.swapped for j in judged} == {True, False}
    assert lab.service._log.tally("default")[pair.pair_id].first == 8


def test_retracted_and_erased_judgments_are_counted_and_not_read(lab: Any) -> None:
    lab.fill_pool(3)
    kept, back = lab.judge(), lab.judge()
    lab.judge(rater="goes-away")
    lab.service.retract(back.judgment_id, rater_key=lab.rater)
    lab.service.erase("goes-away")
    Mover(lab.stream, lab.store).run_once()
    feedback = read_feedback(lab.store)
    assert [j.judgment.judgment_id for j in feedback.judged] == [kept.judgment_id]
    assert (feedback.counts["retracted"], feedback.counts["erased"], feedback.counts["judgments"]) == (1, 1, 3)


def test_a_tombstone_that_holds_the_pseudonym_itself_is_still_obeyed(lab: Any) -> None:
    lab.fill_pool(1)
    lab.judge()
    rater = lab.service._signer.pseudonym(lab.rater)
    lab.service._log.append(Tombstone(tombstone_id=rater, rater=rater, received=lab.clock()))
    Mover(lab.stream, lab.store).run_once()
    assert read_feedback(lab.store).judged == ()


def test_flags_are_read_and_unreadable_entries_are_counted(lab: Any) -> None:
    lab.fill_pool(1)
    for garbage in ("{", '{"record": "judgment"}'):
        lab.stream.run_script(
            "return {redis.call('XADD', KEYS[1], '*', 'record', ARGV[1])}", [lab.stream.name], [garbage]
        )
    answer = lab.judge()
    flag = Flag(flag_id="f1", judgment_id=answer.judgment_id, rule="too-fast", rule_version=1, received=lab.clock())
    lab.service._log.append(flag)
    lab.service._log.append(flag)
    Mover(lab.stream, lab.store).run_once()
    feedback = read_feedback(lab.store)
    assert len(feedback.judged) == 1
    assert feedback.flags == (flag,)
    assert feedback.counts["unreadable"] == 2


def test_a_segment_without_its_manifest_is_not_read(lab: Any) -> None:
    lab.fill_pool(1)
    lab.judge()
    Mover(lab.stream, lab.store).run_once()
    for key in lab.store.list(MANIFESTS):
        lab.store.delete(key)
    assert read_feedback(lab.store).judged == ()


def test_a_damaged_or_missing_segment_is_an_error_not_a_shorter_list(lab: Any) -> None:
    lab.fill_pool(1)
    lab.judge()
    Mover(lab.stream, lab.store).run_once()
    (segment,) = lab.store.list(SEGMENTS)
    data = lab.store.get(segment).data
    lab.store.put(segment, data.replace(data[-8:], b"damaged!"))
    with pytest.raises(StoreError):
        read_feedback(lab.store)
    lab.store.delete(segment)
    with pytest.raises(StoreUnavailable, match="missing"):
        read_feedback(lab.store)


def test_concurrent_movers_move_every_record(lab: Any) -> None:
    lab.fill_pool(2)
    stop = threading.Event()
    movers = [Mover(lab.stream, lab.store, consumer=f"m{i % 2}", max_entries=2) for i in range(3)]
    threads = [
        threading.Thread(target=m.run_forever, args=(stop,), kwargs={"interval_s": 0.01}, daemon=True) for m in movers
    ]
    for thread in threads:
        thread.start()
    answers = {lab.judge(rater=f"rater-number-{i % 4}").judgment_id for i in range(20)}
    _wait_until(lambda: lab.stream.backlog(GROUP).length == 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert _votes(lab.store) == Counter(answers)


@pytest.mark.parametrize("binary", [None, pytest.param("redis-server", marks=pytest.mark.redis)])
def test_kill_9_of_redis_under_load_loses_no_acknowledged_vote(tmp_path: Path, lab: Any, binary: str | None) -> None:
    if binary and not (binary := shutil.which(binary)):
        pytest.skip("no redis-server is installed")
    stop = threading.Event()
    with EmbeddedRedis(tmp_path / "state", binary=binary) as server:
        stream = RecordStream(server)
        lab.service = FeedbackService(stream, lab.store, secret=b"secret", now=lab.clock)
        lab.fill_pool(2)
        acknowledged: list[str] = []
        views = [lab.compare(f"rater-number-{i}") for i in range(60)]

        def vote(part: int) -> None:
            for i in range(part, len(views), 3):
                answer = lab.judgment(views[i], rater=f"rater-number-{i}")
                while answer.judgment_id not in acknowledged and not stop.is_set():
                    with contextlib.suppress(StoreUnavailable):  # no answer: the same again, until there is one
                        lab.service.record_judgment(answer)
                        acknowledged.append(answer.judgment_id)

        mover = Mover(stream, lab.store, max_entries=5, dead_after_s=0)
        moving = threading.Thread(target=mover.run_forever, args=(stop,), kwargs={"interval_s": 0.01}, daemon=True)
        voters = [threading.Thread(target=vote, args=(part,), daemon=True) for part in range(3)]
        for thread in (moving, *voters):
            thread.start()
        killed = 0
        while any(thread.is_alive() for thread in voters) and killed < 4:
            time.sleep(0.05)
            with redis.Redis.from_url(server.url()) as client:
                os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
            killed += 1
        for thread in voters:
            thread.join(20)
        stop.set()
        moving.join(20)
        Mover(stream, lab.store, dead_after_s=0).run_once()
        assert killed >= 1
        assert len(acknowledged) == len(views)
        assert _votes(lab.store) == Counter(acknowledged)


def test_a_mover_survives_a_store_outage(lab: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Away(FileStore):
        back = False

        def put_if_absent(self, key: str, data: bytes) -> str:
            if not self.back:
                raise StoreUnavailable("the object store is away")
            return super().put_if_absent(key, data)

    store = Away(lab.store.root)
    lab.fill_pool(1)
    answer = lab.judge()
    stop = threading.Event()
    run = Mover(lab.stream, store).run_forever
    thread = threading.Thread(target=run, args=(stop,), kwargs={"interval_s": 0.01}, daemon=True)
    thread.start()
    _wait_until(lambda: "the object store is away" in caplog.text)
    Away.back = True
    _wait_until(lambda: lab.stream.backlog(GROUP).length == 0)
    stop.set()
    thread.join()
    assert _votes(lab.store) == Counter([answer.judgment_id])


def _wait_until(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
