"""A lost store comes back from a backup, a lost Redis from the store, and neither brings anything back twice."""

import secrets
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harmonixr_platform.cli import main
from harmonixr_platform.feedback.errors import AlreadyJudged, FeedbackError, RaterErased
from harmonixr_platform.feedback.records.backup import back_up, prune, read_snapshot, restore, snapshots
from harmonixr_platform.feedback.records.mover import GROUP, MANIFESTS, SEGMENTS, Manifest, Mover, seal
from harmonixr_platform.feedback.records.reader import read_feedback, read_records
from harmonixr_platform.feedback.records.replay import replay
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.errors import StoreUnavailable
from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.stores.streams import RecordStream, RedisServer, StreamEntry

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def target(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "backup")


@pytest.fixture
def empty(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "restored")


@pytest.fixture
def new_redis(lab: Any, any_address: RedisServer) -> Callable[[], RecordStream]:
    """An empty Redis; the lab's service is restarted on it."""

    def make() -> RecordStream:
        stream = RecordStream(any_address, name=f"{{new-{secrets.token_hex(6)}}}:feedback")
        lab.service = FeedbackService(stream, lab.store, secret=b"secret", now=lab.clock)
        lab.stream = stream
        return stream

    return make


def _votes(store: ObjectStore) -> Counter[str]:
    return Counter(judged.judgment.judgment_id for judged in read_feedback(store).judged)


def _judge(lab: Any, count: int) -> list[str]:
    answers = [lab.judge(rater=f"rater-number-{i}").judgment_id for i in range(count)]
    Mover(lab.stream, lab.store).run_once()
    return answers


def test_an_empty_store_is_whole_again_after_restoring_the_newest_backup(lab: Any, target: Any, empty: Any) -> None:
    lab.fill_pool(2)
    old = _judge(lab, 2)
    back_up(lab.store, target, now=NOW)
    new = _judge(lab, 3)
    taken = back_up(lab.store, target, now=NOW + timedelta(hours=1))
    done = restore(target, empty)
    assert done["written"] == len(taken.objects)
    assert _votes(empty) == Counter(old + new)
    assert read_feedback(empty).data_hash == read_feedback(lab.store).data_hash
    assert lab.service.pools.pair_ids("default") == FeedbackService(lab.stream, empty, secret=b"s").pools.pair_ids(
        "default"
    )


def test_an_older_backup_is_restored_by_name(lab: Any, target: Any, empty: Any) -> None:
    lab.fill_pool(1)
    old = _judge(lab, 2)
    first = back_up(lab.store, target, now=NOW)
    _judge(lab, 1)
    back_up(lab.store, target, now=NOW + timedelta(hours=1))
    restore(target, empty, name=first.name)
    assert _votes(empty) == Counter(old)
    with pytest.raises(FeedbackError, match=first.name):
        restore(target, empty, name="19990101")


def test_restoring_over_newer_data_keeps_it_and_duplicates_nothing(lab: Any, target: Any) -> None:
    lab.fill_pool(1)
    old = _judge(lab, 2)
    back_up(lab.store, target, now=NOW)
    (lost,) = lab.store.list(MANIFESTS)
    lab.store.delete(Manifest.model_validate_json(lab.store.get(lost).data).segment)
    lab.store.delete(lost)
    new = _judge(lab, 2)
    done = restore(target, lab.store)
    assert (done["written"], done["mended"]) == (2, 0)
    assert _votes(lab.store) == Counter(old + new)


def test_a_damaged_segment_is_mended_and_a_damaged_one_never_backed_up(lab: Any, target: Any) -> None:
    lab.fill_pool(1)
    old = _judge(lab, 1)
    back_up(lab.store, target, now=NOW)
    (segment,) = lab.store.list(SEGMENTS)
    lab.store.put(segment, b"damaged")
    assert restore(target, lab.store)["mended"] == 1
    assert _votes(lab.store) == Counter(old)
    _judge(lab, 1)
    (newer,) = set(lab.store.list(SEGMENTS)) - {segment}
    lab.store.put(newer, b"damaged")
    with pytest.raises(StoreUnavailable, match="damaged"):
        back_up(lab.store, target, now=NOW + timedelta(hours=1))
    assert len(snapshots(target)) == 1


def test_a_damaged_backup_is_named_and_its_manifests_are_not_written(lab: Any, target: Any, empty: Any) -> None:
    lab.fill_pool(1)
    _judge(lab, 1)
    taken = back_up(lab.store, target, now=NOW)
    (digest,) = (digest for key, digest in taken.objects.items() if key.startswith(SEGMENTS))
    target.put(f"blobs/{digest}", b"damaged")
    with pytest.raises(StoreUnavailable, match=digest):
        restore(target, empty)
    assert empty.list(MANIFESTS) == ()


def test_backups_share_content_and_old_ones_go_without_harm(lab: Any, target: Any, empty: Any) -> None:
    lab.fill_pool(2)
    answers = []
    for hour in range(4):
        answers += _judge(lab, 1)
        blobs = len(target.list("blobs/"))
        taken = back_up(lab.store, target, now=NOW + timedelta(hours=hour))
        # A segment and a manifest are new; the rest is there.
        assert hour == 0 or len(target.list("blobs/")) == blobs + 2
    target.put("blobs/" + "0" * 64, b"left by a backup that was cut off")
    assert prune(target, keep=2) == 1
    assert snapshots(target)[1:] == (taken.name,)
    assert read_snapshot(target, taken.name) == taken
    restore(target, empty)
    assert _votes(empty) == Counter(answers)


def test_an_erasure_survives_restoring_an_older_backup(lab: Any, target: Any) -> None:
    lab.fill_pool(1)
    _judge(lab, 1)
    back_up(lab.store, target, now=NOW)
    (key,) = lab.store.list(MANIFESTS)
    manifest = Manifest.model_validate_json(lab.store.get(key).data)
    lab.store.put(key, manifest.model_copy(update={"void": True}).model_dump_json().encode())
    lab.store.delete(manifest.segment)
    assert restore(target, lab.store)["erased"] == 1
    assert lab.store.list(SEGMENTS) == ()
    assert not read_feedback(lab.store).judged


def test_a_replay_restores_every_judgment_to_a_lost_redis(lab: Any, new_redis: Any) -> None:
    lab.fill_pool(2)
    view = lab.compare()
    answer = lab.judgment(view, "a")
    lab.service.record_judgment(answer)
    unanswered = lab.compare("rater-number-two")
    back = lab.judge("b")
    lab.service.retract(back.judgment_id, rater_key=lab.rater)
    lab.judge(rater="goes-away")
    lab.service.erase("goes-away")
    before = (
        lab.service._log.tally("default"),
        lab.service._log.history("default", lab.service._signer.pseudonym(lab.rater)),
    )
    Mover(lab.stream, lab.store).run_once()
    stood = _votes(lab.store)
    stream = new_redis()
    lab.clock.pass_(hours=1)

    done = replay(stream, lab.store, now=lab.clock())

    assert (done["comparison"], done["judgment"], done["retraction"], done["refused"]) == (4, 3, 1, 0)
    log = lab.service._log
    assert (log.tally("default"), log.history("default", lab.service._signer.pseudonym(lab.rater))) == before
    assert stream.backlog(GROUP).length == 0
    assert lab.service.record_judgment(answer).duplicate
    with pytest.raises(AlreadyJudged):
        lab.service.record_judgment(lab.judgment(view, "b"))
    with pytest.raises(RaterErased):
        lab.compare("goes-away")
    assert lab.service.retract(back.judgment_id, rater_key=lab.rater)
    late = lab.judgment(unanswered, "tie", rater="rater-number-two")
    assert not lab.service.record_judgment(late).duplicate
    Mover(stream, lab.store).run_once()
    assert _votes(lab.store) == stood + Counter([late.judgment_id])


def test_a_repeated_or_concurrent_replay_changes_nothing(lab: Any) -> None:
    lab.fill_pool(2)
    _judge(lab, 3)
    waiting = lab.judge(rater="not-yet-carried")
    before = lab.service._log.tally("default")
    for _ in range(2):
        replay(lab.stream, lab.store, now=lab.clock())
    assert lab.service._log.tally("default") == before
    Mover(lab.stream, lab.store).run_once()
    assert _votes(lab.store)[waiting.judgment_id] == 1


def test_a_replay_years_later_still_counts_every_vote(lab: Any, new_redis: Any) -> None:
    (pair,) = lab.fill_pool(1)
    _judge(lab, 3)
    past, names = timedelta(days=900), ("created", "expires", "received")
    old = [
        record.model_copy(update={name: getattr(record, name) - past for name in names if hasattr(record, name)})
        for record in read_records(lab.store)
    ]
    for key in lab.store.list(MANIFESTS):
        lab.store.delete(key)
    seal(lab.store, [StreamEntry(f"1-{number}", record.model_dump_json()) for number, record in enumerate(old)])
    assert replay(new_redis(), lab.store, now=lab.clock())["refused"] == 0
    assert lab.service._log.tally("default")[pair.pair_id].judged == 3


def test_the_commands_bring_a_machine_back_that_lost_everything(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARMONIXR_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HARMONIXR_RATER_SECRET", "kept elsewhere")
    lab.service = FeedbackService.open(Settings(), now=lab.clock)
    lab.fill_pool(2)
    answers = [lab.judge(choice) for choice in ("a", "b", "tie")]
    lab.service.close()

    def output(*arguments: str) -> str:
        assert main(["feedback", *arguments]) == 0
        return capsys.readouterr().out

    place = str(tmp_path / "elsewhere")
    # The command moves waiting entries first, so that the backup has them.
    assert " 6 objects of file:" in output("backup", place, "--keep", "3")
    shutil.rmtree(tmp_path / "state")
    assert "restored to file:" in output("restore", place)
    assert output("replay") == "restored in Redis: 3 comparisons, 3 judgments\n"
    assert output("report").startswith("3 judgments")
    assert len(output("restore", place, "--list").splitlines()) == 1
    assert "0 objects written, 0 damaged objects repaired, 6 already there" in output("restore", place)
    lab.service = FeedbackService.open(Settings(), now=lab.clock)
    assert all(lab.service.record_judgment(answer).duplicate for answer in answers)
    lab.service.close()


def test_a_place_that_is_none_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["feedback", "restore", "ftp://somewhere"]) == 2
    assert "give a folder, file:///folder or s3://bucket/prefix" in capsys.readouterr().err


class Cut(Exception):
    """What runs is cut off here."""


class Cutting:
    """Passes calls on to a store or stream, and cuts before or after the n-th of them."""

    def __init__(self, inner: Any, at: int) -> None:
        self._inner, self._left = inner, at

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not callable(method):
            return method

        def call(*args: Any, **options: Any) -> Any:
            self._step()
            answer = method(*args, **options)
            self._step()
            return answer

        return call

    def _step(self) -> None:
        if self._left == 0:
            raise Cut
        self._left -= 1


def _cut_everywhere(run: Callable[[int], None]) -> int:
    """Run with a cut at each step in turn until none strikes; return how many did."""
    for at in range(10_000):
        try:
            run(at)
        except Cut:
            continue
        return at
    raise AssertionError("it never ended")


def test_a_backup_cut_off_anywhere_is_not_listed_and_the_next_is_whole(lab: Any, target: Any, empty: Any) -> None:
    lab.fill_pool(1)
    answers = _judge(lab, 2)

    def run(at: int) -> None:
        place = FileStore(target.root / f"place-{at}")
        try:
            back_up(lab.store, Cutting(place, at), now=NOW)  # type: ignore[arg-type]
        finally:
            # Listed after its last step only, and then whole; else the next one takes over what was copied.
            if not snapshots(place):
                back_up(lab.store, place, now=NOW)
            restored = FileStore(empty.root / f"restored-{at}")
            restore(place, restored)
            assert _votes(restored) == Counter(answers)

    assert _cut_everywhere(run) > 10


def test_readers_of_a_store_see_whole_segments_wherever_its_restoring_was_cut_off(lab: Any, target: Any) -> None:
    lab.fill_pool(1)
    answers = _judge(lab, 1) + _judge(lab, 1)
    back_up(lab.store, target, now=NOW)
    folder = lab.store.root.parent
    seen: set[int] = set()

    def run(at: int) -> None:
        half = FileStore(folder / f"half-{at}")
        try:
            restore(target, Cutting(half, at))  # type: ignore[arg-type]
        finally:
            seen.add(len(read_feedback(half).judged))
            restore(target, half)
            assert _votes(half) == Counter(answers)

    assert _cut_everywhere(run) > 10
    assert seen == {0, 1, 2}


def test_a_replay_cut_off_anywhere_is_finished_by_the_next(lab: Any, new_redis: Any) -> None:
    lab.fill_pool(2)
    _judge(lab, 2)
    back = lab.judge()
    lab.service.retract(back.judgment_id, rater_key=lab.rater)
    Mover(lab.stream, lab.store).run_once()
    before = lab.service._log.tally("default")

    def run(at: int) -> None:
        stream = new_redis()
        try:
            replay(Cutting(stream, at), lab.store, now=lab.clock())  # type: ignore[arg-type]
        finally:
            replay(stream, lab.store, now=lab.clock())
            assert lab.service._log.tally("default") == before

    assert _cut_everywhere(run) > 10
