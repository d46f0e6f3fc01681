"""After an erasure, even an interrupted one, no stored data contains the rater; other raters lose nothing."""

import contextlib
import gzip
import os
import random
from collections import Counter
from typing import Any

import pytest
import redis

from harmonixr_platform.feedback.errors import RaterErased, UnknownComparison
from harmonixr_platform.feedback.records.erasure import Eraser
from harmonixr_platform.feedback.records.mover import MANIFESTS, SEGMENTS, Manifest, Mover
from harmonixr_platform.feedback.records.reader import live_manifests, read_feedback
from harmonixr_platform.feedback.reports.flags import record_flags
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.schemas import ComparisonRequest, Flag, InfillRequest, RegionSpec
from harmonixr_platform.stores.errors import ConditionFailed
from harmonixr_platform.stores.s3 import S3Store

GONE, STAYS = "rater-who-goes", "rater-who-stays"


class Crash(BaseException):
    """The process dies here: nothing in the code under test may catch it."""


class Stopping:
    """Passes calls on, and dies before or after the one whose turn it is."""

    def __init__(self, inner: Any, turn: list[int]) -> None:
        self._inner, self._turn = inner, turn

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not callable(method):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            self._tick()
            answer = method(*args, **kwargs)
            self._tick()
            return answer

        return call

    def _tick(self) -> None:
        self._turn[0] -= 1
        if self._turn[0] == 0:
            raise Crash


def s3_store(prefix: str) -> S3Store:
    url = os.environ.get("HARMONIXR_TEST_S3_URL")
    if not url:
        pytest.skip("HARMONIXR_TEST_S3_URL names no S3 server")
    store = S3Store(
        "feedback",
        prefix,
        endpoint_url=url,
        access_key=os.environ.get("S3_ACCESS_KEY", "testaccess"),
        secret_key=os.environ.get("S3_SECRET_KEY", "testsecret0123456789"),
    )
    store.create_bucket()
    return store


@pytest.fixture(params=["files", pytest.param("s3", marks=pytest.mark.s3)])
def judged(lab: Any, request: pytest.FixtureRequest) -> Any:
    """Two raters; one has judged, taken back, been flagged, and compared two fills of a gap of their own."""
    if request.param == "s3":
        lab.store = s3_store(lab.stream.name.strip("{").partition("}")[0])
        lab.service = FeedbackService(lab.stream, lab.store, secret=b"secret", now=lab.clock)
    lab.fill_pool(4)
    for _ in range(3):
        lab.judge(rater=STAYS)
        answer = lab.judge(rater=GONE)
    Mover(lab.stream, lab.store).run_once()
    lab.service.retract(answer.judgment_id, rater_key=GONE)
    flag = Flag(flag_id="f", judgment_id=answer.judgment_id, rule="r", rule_version=1, received=lab.clock())
    record_flags(lab.service._log, [flag])
    own = lab.pair(9)
    infill = InfillRequest(midi_base64=own.context_base64, region=RegionSpec(bars="2-3"))
    view = lab.service.create_comparison(ComparisonRequest(rater_key=GONE, infill=infill), own=own)
    lab.service.record_judgment(lab.judgment(view, rater=GONE, comment="my own song"))
    lab.own_pair = own.pair_id
    return lab


def eraser(lab: Any, *, stream: Any = None, store: Any = None) -> Eraser:
    return Eraser(stream or lab.stream, store or lab.store, secret=b"secret")


def everything(lab: Any) -> bytes:
    """All that Redis and the store hold, keys and values."""
    found = [key.encode() + _unzipped(key, lab.store.get(key).data) for key in lab.store.list()]
    client = redis.Redis.from_url(lab.stream._server.url())
    for key in client.scan_iter(match=f"{lab.stream.name}*"):
        found.append(key)
        kind = client.type(key)
        if kind == b"hash":
            found += [field + b"=" + value for field, value in client.hgetall(key).items()]
        elif kind == b"stream":
            found += [b"".join(fields.values()) for _, fields in client.xrange(key)]
        else:
            found.append(client.get(key))
    client.close()
    return b"\n".join(found)


def _unzipped(key: str, data: bytes) -> bytes:
    return gzip.decompress(data) if key.endswith(".gz") else data


def names(lab: Any, rater: str) -> bool:
    pseudonym = lab.service._signer.pseudonym(rater).encode()
    return pseudonym in everything(lab)


def votes(lab: Any) -> list[str]:
    return [one.judgment.judgment_id for one in read_feedback(lab.store).judged]


def test_no_stored_data_contains_an_erased_rater(judged: Any) -> None:
    assert names(judged, GONE)
    done = eraser(judged).erase(eraser(judged).pseudonym(GONE), now=judged.clock())
    assert not names(judged, GONE)
    assert names(judged, STAYS)
    assert len(votes(judged)) == 3
    # 4 comparisons, 4 judgments, a retraction and a flag.
    assert (done["records"], done["pairs"]) == (10, 1)
    assert judged.own_pair not in str(judged.store.list("feedback/pairs/"))
    assert len(judged.store.list("feedback/pairs/")) == 4
    assert b"my own song" not in everything(judged)
    assert read_feedback(judged.store).flags == ()


def test_the_tallies_are_as_if_the_rater_had_never_been(judged: Any) -> None:
    """The scheduler's counts must follow, or pairs would lack the raters that their study needs."""
    eraser(judged).erase(eraser(judged).pseudonym(GONE), now=judged.clock())
    counts = judged.service._log.tally("default")
    expected = Counter(one.pair.pair_id for one in read_feedback(judged.store).judged)
    assert {pair: tally.judged for pair, tally in counts.items() if tally.judged} == expected
    assert {pair: tally.shown for pair, tally in counts.items() if tally.shown} == expected
    assert not judged.service._log.history("default", eraser(judged).pseudonym(GONE))


def test_remaining_segments_are_complete_and_void_manifests_contain_no_rater(judged: Any) -> None:
    eraser(judged).erase(eraser(judged).pseudonym(GONE), now=judged.clock())
    live = {manifest.segment for manifest in live_manifests(judged.store).values()}
    assert live == set(judged.store.list(SEGMENTS))
    assert len(judged.store.list(MANIFESTS)) > len(live)


def test_a_mover_slower_than_the_erasure_brings_nobody_back(judged: Any) -> None:
    """It had written its segment, and its manifest only after the erasure; then it carries the same entries again."""
    (key,) = judged.store.list(MANIFESTS)
    manifest = judged.store.get(key)
    segment = judged.store.get(judged.store.list(SEGMENTS)[0])
    judged.store.delete(key)
    eraser(judged).erase(eraser(judged).pseudonym(GONE), now=judged.clock())
    assert not names(judged, GONE)
    with pytest.raises(ConditionFailed):
        judged.store.put_if_absent(key, manifest.data)
    judged.store.put(Manifest.model_validate_json(manifest.data).segment, segment.data)
    assert len(votes(judged)) == 3
    eraser(judged).erase(eraser(judged).pseudonym(GONE), now=judged.clock())
    assert not names(judged, GONE)


def test_erasing_again_or_an_unknown_rater_changes_nothing(judged: Any) -> None:
    Mover(judged.stream, judged.store).run_once()
    before = votes(judged)
    eraser(judged).erase("0" * 24, now=judged.clock())
    assert votes(judged) == before
    eraser(judged).erase(eraser(judged).pseudonym(GONE), now=judged.clock())
    assert eraser(judged).erase(eraser(judged).pseudonym(GONE), now=judged.clock()) == Counter()


def test_requests_of_an_erased_rater_are_refused(judged: Any) -> None:
    open_view = judged.compare(GONE)
    eraser(judged).erase(eraser(judged).pseudonym(GONE), now=judged.clock())
    with pytest.raises(RaterErased) as caught:
        judged.compare(GONE)
    assert caught.value.status == 410
    with pytest.raises(UnknownComparison):
        judged.service.record_judgment(judged.judgment(open_view, rater=GONE))
    assert not names(judged, GONE)
    judged.judge(rater="the-same-person-anew")


def test_wherever_it_stops_asking_again_finishes_it(judged: Any) -> None:
    """A crash before and after every single step, each followed by another try, until one goes through untouched."""
    pseudonym = eraser(judged).pseudonym(GONE)
    turn, stops = 1, 0
    while True:
        counter = [turn]
        stopping = eraser(judged, stream=Stopping(judged.stream, counter), store=Stopping(judged.store, counter))
        try:
            stopping.erase(pseudonym, now=judged.clock())
        except Crash:
            stops += 1
            turn += 1
            # Other raters' judgments can be read at every moment.
            assert len(votes(judged)) >= 3
            continue
        break
    assert stops > 20
    assert not names(judged, GONE)
    assert sum(tally.judged for tally in judged.service._log.tally("default").values()) == 3
    assert len(votes(judged)) == 3


@pytest.mark.parametrize("seed", range(6))
def test_random_crashes_beside_a_mover_that_died_with_records_in_hand(judged: Any, seed: int) -> None:
    rng = random.Random(seed)
    judged.stream.create_group("mover")
    judged.stream.read_new("mover", "dead-mover", count=rng.randrange(1, 4))
    pseudonym = eraser(judged).pseudonym(GONE)
    for _ in range(4):
        counter = [rng.randrange(1, 60)]
        with contextlib.suppress(Crash):
            eraser(judged, stream=Stopping(judged.stream, counter), store=Stopping(judged.store, counter)).erase(
                pseudonym, now=judged.clock()
            )
    eraser(judged).erase(pseudonym, now=judged.clock())
    assert not names(judged, GONE)
    assert len(votes(judged)) == 3


def test_a_restored_backup_is_erased_again(judged: Any) -> None:
    Mover(judged.stream, judged.store).run_once()
    backup = {key: judged.store.get(key).data for key in judged.store.list()}
    eraser(judged).erase(eraser(judged).pseudonym(GONE), now=judged.clock())
    for key, data in backup.items():
        judged.store.put(key, data)
    assert names(judged, GONE)
    assert len(votes(judged)) == 3
    assert eraser(judged).repeat(now=judged.clock())["records"] == 10
    assert not names(judged, GONE)
    assert len(votes(judged)) == 3


def test_a_reader_that_was_overtaken_reads_anew(judged: Any) -> None:
    Mover(judged.stream, judged.store).run_once()
    done: list[Counter[str]] = []

    class Overtaken:
        def __getattr__(self, name: str) -> Any:
            return getattr(judged.store, name)

        def list(self, prefix: str = "") -> tuple[str, ...]:
            found: tuple[str, ...] = judged.store.list(prefix)
            if not done:
                done.append(eraser(judged).erase(eraser(judged).pseudonym(GONE), now=judged.clock()))
            return found

    assert len(read_feedback(Overtaken()).judged) == 3
    assert done[0]["segments"] > 0
