"""A real Redis, a folder of objects, a clock that the test moves, and pairs of real if unmusical fills."""

import hashlib
import os
import random
import secrets
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pytest

from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice
from harmonixr_platform.feedback.records.pairs import make_pair
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.requests import resolve_region
from harmonixr_platform.schemas import (
    Candidate,
    ComparisonRequest,
    ComparisonView,
    ControlSpec,
    JudgmentRequest,
    Pair,
    RegionSpec,
    SamplingSpec,
)
from harmonixr_platform.stores.embedded_redis import EmbeddedRedis
from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.stores.streams import ExternalRedis, RecordStream, RedisServer


@dataclass
class Clock:
    """A clock that moves only when a test calls `pass_`."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("state")) as server:
        yield server


@pytest.fixture
def address(embedded: EmbeddedRedis) -> RedisServer:
    return ExternalRedis(embedded.url())


@pytest.fixture(params=["embedded", pytest.param("debian", marks=pytest.mark.redis)])
def any_address(request: pytest.FixtureRequest) -> RedisServer:
    """The embedded Redis, and in the marked suite Debian's."""
    if request.param == "embedded":
        chosen: RedisServer = request.getfixturevalue("address")
        return chosen
    url = os.environ.get("HARMONIXR_TEST_REDIS_URL")
    if not url:
        pytest.skip("HARMONIXR_TEST_REDIS_URL names no Redis server")
    return ExternalRedis(url)


@pytest.fixture
def stream(any_address: RedisServer) -> Iterator[RecordStream]:
    with_own_name = RecordStream(any_address, name=f"{{test-{secrets.token_hex(6)}}}:feedback")
    yield with_own_name
    with_own_name.close()


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "objects")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Lab:
    """A feedback service with everything around it, and short ways to use it."""

    service: FeedbackService
    stream: RecordStream
    store: FileStore
    clock: Clock
    rater: str = "rater-key-one"

    def pair(self, seed: int = 0, *, models: tuple[str, str] = ("model-x", "model-y")) -> Pair:
        """Return two random fills of bars 2-3 of a composed song."""
        return _pair(seed, models)

    def fill_pool(self, count: int, *, pool: str = "default") -> list[Pair]:
        pairs = [self.service.pairs.put(self.pair(i)) for i in range(count)]
        for pair in pairs:
            self.service.pools.add(pool, pair.pair_id)
        return pairs

    def request(self, rater: str = rater, pool: str = "default") -> ComparisonRequest:
        return ComparisonRequest(rater_key=rater, pool=pool)

    def compare(self, rater: str = rater, pool: str = "default") -> ComparisonView:
        return self.service.create_comparison(self.request(rater, pool))

    def judgment(
        self,
        view: ComparisonView,
        choice: str = "a",
        *,
        rater: str = rater,
        judgment_id: str | None = None,
        **more: object,
    ) -> JudgmentRequest:
        # Both fills heard to the end, and the time that takes.
        heard = [(view.start_s, view.end_s)]
        self.clock.pass_(seconds=2 * (view.end_s - view.start_s))
        content = {
            "listening": {"intervals_a": heard, "intervals_b": heard},
            "judgment_id": judgment_id or secrets.token_hex(8),
            "comparison_id": view.comparison_id,
            "token": view.token,
            "rater_key": rater,
            "choice": choice,
        }
        return JudgmentRequest.model_validate(content | more)

    def judge(self, choice: str = "a", *, rater: str = rater) -> JudgmentRequest:
        """Request a comparison, judge it and return the request."""
        answer = self.judgment(self.compare(rater), choice, rater=rater)
        self.service.record_judgment(answer)
        return answer


@pytest.fixture
def lab(stream: RecordStream, store: FileStore, clock: Clock) -> Lab:
    service = FeedbackService(stream, store, secret=b"secret", rng=random.Random(1), now=clock)
    return Lab(service, stream, store, clock)


@lru_cache(maxsize=64)
def _pair(seed: int, models: tuple[str, str]) -> Pair:
    context = compose_song(seed % 4)
    region = RegionSpec(bars="2-3")
    first, second = (_candidate(context, region, seed=seed * 2 + i, model=models[i]) for i in range(2))
    return make_pair(
        context, piece_id=f"piece-{seed}", region=region, controls=ControlSpec(), first=first, second=second
    )


def _candidate(context: bytes, spec: RegionSpec, *, seed: int, model: str) -> Candidate:
    song = Song.parse(context)
    region = resolve_region(spec, song)
    rng = random.Random(seed)
    cell = region.cells[0]
    notes = [Note(rng.randrange(cell.start, cell.end), 60, rng.randrange(48, 84), 80) for _ in range(6)]
    midi = splice(song, region, {cell.track: notes}).midi
    return Candidate(
        model_version=model,
        checkpoint_sha256=hashlib.sha256(model.encode()).hexdigest(),
        sampling=SamplingSpec(),
        seed=seed,
        tokens=((seed, 1, 2),),
        midi_sha256=hashlib.sha256(midi).hexdigest(),
        midi_base64=b64encode(midi).decode(),
    )
