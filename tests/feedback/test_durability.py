"""No acknowledged judgment is lost or counted twice, for any failure at any step.

A step is one command to Redis, one call of the object store, or one system call that makes a file durable. A fault
strikes before or after a step. A fixed scenario is run once for each step, with one fault; random ones with many.
"""

import contextlib
import os
import random
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import redis

from harmonixr_platform.feedback.records.mover import GROUP, MANIFESTS, SEGMENTS, Manifest, Mover
from harmonixr_platform.feedback.records.pairs import PairStore
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.feedback.studies.pair_view import view_pair
from harmonixr_platform.schemas import ComparisonRequest, ComparisonView, JudgmentRequest
from harmonixr_platform.stores import files
from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.stores.errors import StoreUnavailable
from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.stores.s3 import S3Store
from harmonixr_platform.stores.streams import RecordStream, RedisServer

# What a fault may be. The last two are no faults but the worst moments for a mover: meanwhile another one does all
# the work, or a judgment is written.
MEANWHILE = ("overtaken", "written meanwhile")
KINDS = ("died", "connection lost", "timed out", *MEANWHILE)
SEEDS = 8


class Died(BaseException):
    """The process ends here: nothing in the code under test may catch it."""


class Faults:
    """Counts steps and strikes at those that `strike` names. Off until a world turns it on."""

    def __init__(self, strike: Callable[[int], str | None]) -> None:
        self.steps = 0
        self.struck: list[str] = []
        self.meanwhile: Callable[[str], None] = lambda kind: None
        self.on = False
        self._strike = strike

    def step(self, where: str, *, lost: type[Exception], late: type[Exception]) -> None:
        if not self.on:
            return
        kind = self._strike(self.steps)
        self.steps += 1
        # Under the file store's lock nobody else gets anything done.
        if kind is None or (kind in MEANWHILE and "os." in where):
            return
        self.struck.append(f"{kind} {where}")
        if kind == "died":
            raise Died(where)
        if kind == "connection lost":
            raise lost(where)
        if kind == "timed out":
            raise late(where)
        self.on = False
        try:
            self.meanwhile(kind)
        finally:
            self.on = True


class FaultyRedis(redis.Redis):
    """A real client; each command is a step before and a step after."""

    faults: Faults

    def execute_command(self, *args: Any, **options: Any) -> Any:
        lost = {"lost": redis.ConnectionError, "late": redis.TimeoutError}
        self.faults.step(f"before {args[0]}", **lost)
        answer = super().execute_command(*args, **options)
        self.faults.step(f"after {args[0]}", **lost)
        return answer


class FaultyStore:
    """Passes every call on to a store; each is a step before and a step after."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        self._inner, self._faults = inner, faults

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            lost = {"lost": StoreUnavailable, "late": StoreUnavailable}
            self._faults.step(f"before {name}", **lost)
            answer = getattr(self._inner, name)(*args, **options)
            self._faults.step(f"after {name}", **lost)
            return answer

        return call


class FaultyOs:
    """The module `os` as the file store sees it; what makes a file durable is a step before and a step after."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"link", "replace", "fsync"}:
            return real

        def call(*args: Any) -> Any:
            self._faults.step(f"before os.{name}", lost=OSError, late=OSError)
            answer = real(*args)
            self._faults.step(f"after os.{name}", lost=OSError, late=OSError)
            return answer

        return call


class World:
    """Raters with an outbox each, a service and movers that die and are started again, over real stores."""

    def __init__(self, lab: Any, address: RedisServer, store: Any, faults: Faults, *, shown: Any) -> None:
        self.address, self.store, self.faults, self.lab = address, store, faults, lab
        self.name = f"{{crash-{secrets.token_hex(6)}}}:feedback"
        self.stream = RecordStream(address, name=self.name)
        # Every world begins with a server that has not seen the script, so that each has the same steps.
        with redis.Redis.from_url(address.url()) as client:
            client.script_flush()
        self.acknowledged: set[str] = set()
        self.taken_back: set[str] = set()
        self.maybe_taken_back: set[str] = set()
        self.meanwhile = Counter[str]()
        self._pair_view = shown
        lab.service = self._service(faulty=False)
        lab.fill_pool(2)
        self._frail = self._service(faulty=True)
        faults.meanwhile = self._meanwhile
        faults.on = True

    def compare(self, rater: str) -> ComparisonView:
        request = ComparisonRequest(rater_key=rater, pool="default")
        view: ComparisonView = self._until_answered(lambda service: service.create_comparison(request))
        return view

    def judge(self, view: ComparisonView, choice: str, *, rater: str) -> JudgmentRequest:
        answer: JudgmentRequest = self.lab.judgment(view, choice, rater=rater)
        with contextlib.suppress(GivenUp):
            self._until_answered(lambda service: service.record_judgment(answer))
            self.acknowledged.add(answer.judgment_id)
        return answer

    def retract(self, judgment_id: str, *, rater: str) -> None:
        self.maybe_taken_back.add(judgment_id)
        with contextlib.suppress(GivenUp):
            self._until_answered(lambda service: service.retract(judgment_id, rater_key=rater))
            self.taken_back.add(judgment_id)

    def move(self, consumer: str, *, max_entries: int = 100) -> None:
        """Run a mover once; the next one continues after any failure."""
        store = FaultyStore(self.store, self.faults)
        mover = Mover(self._faulty_stream(), store, consumer=consumer, max_entries=max_entries, dead_after_s=0)  # type: ignore[arg-type]
        with contextlib.suppress(Died, StoreUnavailable):
            mover.run_once()

    def _until_answered(self, call: Callable[[FeedbackService], Any]) -> Any:
        """Call as an outbox does: again after no response, on a service that may have been restarted."""
        for _ in range(6):
            try:
                return call(self._frail)
            except Died:
                self._frail = self._service(faulty=True)
            except StoreUnavailable:
                continue
        raise GivenUp

    def _service(self, *, faulty: bool) -> FeedbackService:
        stream = self._faulty_stream() if faulty else self.stream
        service = FeedbackService(stream, self.store, secret=b"secret", now=self.lab.clock, rng=random.Random(0))
        # Reading the pairs' MIDI files takes longer than all that is tested here.
        service._pair_view = self._pair_view
        return service

    def _faulty_stream(self) -> RecordStream:
        stream = RecordStream(self.address, name=self.name)
        faulty = FaultyRedis.from_url(self.address.url(), decode_responses=True, protocol=2)
        faulty.faults = self.faults
        stream._connected = lambda: faulty  # type: ignore[method-assign]
        return stream

    def _meanwhile(self, kind: str) -> None:
        if kind == "overtaken":
            Mover(self.stream, self.store, consumer="overtaker", dead_after_s=0).run_once()
            return
        rater = f"late-rater-{self.faults.steps}"
        service = self._service(faulty=False)
        answer = self.lab.judgment(self.lab.compare(rater), "tie", rater=rater)
        service.record_judgment(answer)
        self.acknowledged.add(answer.judgment_id)

    def check(self) -> None:
        """Carry what is left without faults, then hold what is read against what was acknowledged."""
        self.faults.on = False
        context = f"after {self.faults.struck}"
        Mover(self.stream, self.store, consumer="last", dead_after_s=0).run_once()
        feedback = read_feedback(self.store)
        read = Counter(judged.judgment.judgment_id for judged in feedback.judged)
        assert self.acknowledged - self.maybe_taken_back <= read.keys(), context
        assert not self.taken_back & read.keys(), context
        assert set(read.values()) <= {1}, context
        assert len({judged.comparison.comparison_id for judged in feedback.judged}) == read.total(), context
        # What the scheduler counts in Redis is what readers count in the objects.
        tally = self.lab.service._log.tally("default").values()
        assert sum(t.first + t.second + t.tie for t in tally) == read.total(), context
        assert self.stream.backlog(GROUP).length == 0, context
        named = {Manifest.model_validate_json(self.store.get(key).data).segment for key in self.store.list(MANIFESTS)}
        assert named <= set(self.store.list(SEGMENTS)), context


class GivenUp(Exception):
    """Nobody answered for too long: the judgment was never acknowledged, so it may be stored or not."""


def _scenario(world: World) -> None:
    """Everything a record can go through, in two movers' hands."""
    first = world.compare("rater-one")
    hasty = world.judge(first, "a", rater="rater-one")
    world.move("mover-a", max_entries=1)
    world.retract(hasty.judgment_id, rater="rater-one")
    world.judge(first, "b", rater="rater-one")
    world.move("mover-b")
    world.judge(world.compare("rater-two"), "tie", rater="rater-two")
    world.move("mover-a")


def _wander(world: World, rng: random.Random) -> None:
    """Random raters, retractions and movers."""
    mine: list[tuple[str, str]] = []
    for _ in range(14):
        rater = f"rater-number-{rng.randrange(3)}"
        with contextlib.suppress(GivenUp):
            answer = world.judge(world.compare(rater), rng.choice(["a", "b", "tie", "both_bad"]), rater=rater)
            mine.append((answer.judgment_id, rater))
        if mine and rng.random() < 0.3:
            judgment_id, rater = rng.choice(mine)
            if judgment_id in world.acknowledged:
                world.retract(judgment_id, rater=rater)
        if rng.random() < 0.6:
            world.move(f"mover-{rng.randrange(3)}", max_entries=rng.choice([1, 2, 100]))


@pytest.fixture(scope="module")
def quick_folder() -> Iterator[Path]:
    """In memory where there is some: what dies here is a process, never the machine, so no disk is needed."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def embedded(quick_folder: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(quick_folder) as server:
        yield server


@pytest.fixture
def new_world(
    lab: Any, any_address: RedisServer, quick_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., World]:
    shown = lru_cache(lambda pair_id: view_pair(PairStore(lab.store).get(pair_id)))

    def make(strike: Callable[[int], str | None], *, store: Any = None) -> World:
        faults = Faults(strike)
        monkeypatch.setattr(files, "os", FaultyOs(faults))
        lab.store = store or FileStore(quick_folder / secrets.token_hex(6))
        return World(lab, any_address, lab.store, faults, shown=shown)

    return make


def _strikes_once(at: int, kind: str) -> Callable[[int], str | None]:
    return lambda step: kind if step == at else None


def _strikes_often(rng: random.Random, chance: float) -> Callable[[int], str | None]:
    return lambda step: rng.choice(KINDS) if rng.random() < chance else None


@pytest.mark.parametrize("kind", KINDS)
def test_one_fault_at_any_step_loses_and_duplicates_nothing(
    new_world: Callable[..., World], request: pytest.FixtureRequest, kind: str
) -> None:
    calm = new_world(lambda step: None)
    _scenario(calm)
    steps = calm.faults.steps
    calm.check()
    assert steps > 60
    # In the quick suite each step meets one kind of fault, in the marked one all of them.
    is_thorough = request.node.callspec.params["any_address"] == "debian"
    for at in range(steps) if is_thorough else range(KINDS.index(kind), steps, len(KINDS)):
        world = new_world(_strikes_once(at, kind))
        _scenario(world)
        assert len(world.faults.struck) == 1 or kind in MEANWHILE
        world.check()
        # One fault is never enough to keep a rater from being answered.
        assert len(world.acknowledged) >= 3


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_faults_lose_and_duplicate_nothing(new_world: Callable[..., World], seed: int) -> None:
    rng = random.Random(seed)
    world = new_world(_strikes_often(rng, rng.choice([0.02, 0.08, 0.2])))
    _wander(world, rng)
    world.check()
    assert world.faults.struck


@pytest.mark.s3
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_same_holds_on_a_real_s3_server(new_world: Callable[..., World], seed: int) -> None:
    rng = random.Random(seed)
    world = new_world(_strikes_often(rng, rng.choice([0.02, 0.08, 0.2])), store=_real_s3())
    _wander(world, rng)
    world.check()


def _real_s3() -> S3Store:
    url = os.environ.get("HARMONIXR_TEST_S3_URL")
    if not url:
        pytest.skip("HARMONIXR_TEST_S3_URL names no S3 server")
    access_key = os.environ.get("S3_ACCESS_KEY", "testaccess")
    secret_key = os.environ.get("S3_SECRET_KEY", "testsecret0123456789")
    prefix = f"run-{secrets.token_hex(6)}"
    store = S3Store("durability", prefix, endpoint_url=url, access_key=access_key, secret_key=secret_key)
    store.create_bucket()
    return store
