"""The use cases behind the routes: infill, compare, judge, listen. Uses neither HTTP nor Ray.

`Stages` makes the calls to the other stages. This module holds the order of the calls, the limits and the caches.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from harmonixr_model.fill.infiller import MAX_SEED
from harmonixr_platform.feedback.records.pairs import make_pair
from harmonixr_platform.registry import RegistryError
from harmonixr_platform.schemas import (
    Candidate,
    CandidateView,
    ComparisonRequest,
    ComparisonView,
    ErasureReceipt,
    ErasureRequest,
    InfillAccepted,
    InfillDone,
    InfillEvent,
    InfillOptions,
    InfillRequest,
    InfillResponse,
    InspectResponse,
    JudgmentReceipt,
    JudgmentRequest,
    ModelsResponse,
    Pair,
    RetractionReceipt,
    RetractionRequest,
    SamplingSpec,
)
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.errors import BadRequest, DeadlineExceeded, Overloaded, too_large
from harmonixr_platform.serving.infill.candidate_sampler import CandidateSampler, PartialCandidate
from harmonixr_platform.serving.infill.fill_handler import Emit, FillEvent, FillHandler
from harmonixr_platform.serving.infill.redis_response_cache import CachedResponse, RedisResponseCache
from harmonixr_platform.serving.infill.response_cache import AudioCache, ResponseCache, key_reused
from harmonixr_platform.serving.infill.shared_task import SharedTask
from harmonixr_platform.serving.infill.version_routing import Routing
from harmonixr_platform.serving.transport.messages import Excerpt, FilledSong, FillRequest, ModelInfo
from harmonixr_platform.serving.transport.stages import Stages
from harmonixr_platform.stores.streams import Backlog

Result = TypeVar("Result")
# How often the second blind fill is sampled again when it equals the first.
_PAIR_ATTEMPTS = 3
_CACHE_DELAY_S = 0.01  # after this a finished response has usually left the process


class Service:
    """One in each ingress replica, for one event loop. `redis_cache` holds the responses of all replicas."""

    def __init__(self, stages: Stages, args: ServingArgs, *, redis_cache: RedisResponseCache | None = None) -> None:
        self.stages = stages
        self._args = args
        self._redis_cache = redis_cache
        self._routing = Routing(stages, args)
        self._responses: ResponseCache[FillEvent, InfillResponse] = ResponseCache(
            args.cached_responses,
            max_bytes=args.cached_response_bytes,
            size_of=lambda response: sum(len(candidate.midi_base64) for candidate in response.candidates),
        )
        self._sounds: AudioCache[Excerpt] = AudioCache(args.cached_sounds)
        self._handler = FillHandler(stages, args, self._sounds)
        self._waiting: Counter[str] = Counter()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many requests are in progress."""
        return self._waiting.total()

    async def infill(self, request: FillRequest) -> InfillResponse:
        """Return fills of one gap. The same key and request give the same response."""
        return await self._start(request, has_listeners=False).result()

    async def infill_events(self, request: FillRequest) -> AsyncIterator[InfillEvent]:
        """Yield `infill`'s response as it is made: accepted, bars and candidates, and last a summary."""
        sent: set[int | str] = set()
        async with aclosing(self._start(request, has_listeners=True).follow()) as events:  # type: ignore[type-var]
            async for event in events:
                if not isinstance(event, InfillResponse):
                    sent.add(event.index if isinstance(event, CandidateView) else type(event).__name__)
                    yield event
                    continue
                # A task that another caller started without listeners, or a cached one, emitted no events.
                if InfillAccepted.__name__ not in sent:
                    yield _accepted(event)
                for candidate in event.candidates:
                    if candidate.index not in sent:
                        yield candidate
                yield InfillDone(**{name: getattr(event, name) for name in InfillDone.model_fields})

    async def compare(self, request: ComparisonRequest) -> ComparisonView:
        """Present two blind fills: of a pool, or new ones of the caller's own gap."""
        if request.infill is None:
            return await self.stages.compare(request, None)
        # First the rater's rate limit, then the expensive fills.
        await self.stages.admit(request.rater_key)
        async with self._admitted(owner=""):
            own = await self._in_time(self._own_pair(request.infill), self._args.deadline_s)
        return await self.stages.compare(request, own)

    async def judge(self, request: JudgmentRequest) -> JudgmentReceipt:
        """Record a judgment; it is on disk when this returns."""
        return await self.stages.judge(request)

    async def retract(self, request: RetractionRequest) -> RetractionReceipt:
        """Retract a judgment; the retraction is on disk when this returns."""
        return await self.stages.retract(request)

    async def erase(self, request: ErasureRequest) -> ErasureReceipt:
        """Erase a rater; the request is on disk when this returns."""
        return await self.stages.erase(request)

    async def inspect(self, midi_base64: str) -> InspectResponse:
        """Return the bars, tracks and notes of a file."""
        return await self.stages.inspect(self.decode(midi_base64))

    async def preview(self, midi_base64: str, start_s: float, end_s: float | None) -> bytes:
        """Return an excerpt of a file as WAV."""
        return await self._sound(Excerpt(self.decode(midi_base64), start_s, end_s))

    async def sound(self, token: str) -> bytes:
        """Return the WAV of an audio token, from an infill or a comparison."""
        return await self._sound(self._sounds.get(token) or await self.stages.comparison_sound(token))

    async def models(self) -> ModelsResponse:
        """Return the versions in the registry."""
        return await self.stages.models()

    async def leaderboard(self, study: str | None = None) -> dict[str, Any]:
        """Return the models ranked by their judgments, in one study or pool or in all."""
        return await self.stages.leaderboard(study)

    async def backlog(self) -> Backlog:
        """Return how many judgments wait to be moved to the object store."""
        return await self.stages.backlog()

    async def probe(self) -> ModelInfo:
        """Decode a token with the champion; return its version."""
        return await self._in_time(self.stages.probe(), self._args.deadline_s)

    def unpack(self, infill: InfillRequest) -> tuple[bytes, InfillOptions]:
        """Return the file and the options of a JSON body; raises BadRequest, TooLarge."""
        options = InfillOptions(**{name: getattr(infill, name) for name in InfillOptions.model_fields})
        return self.decode(infill.midi_base64), options

    def decode(self, midi_base64: str) -> bytes:
        """Return the file in base64 text; raises BadRequest, TooLarge."""
        limit = self._args.max_midi_bytes
        if len(midi_base64) > (limit + 2) // 3 * 4:
            raise too_large(limit)
        try:
            return base64.b64decode(midi_base64, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("midi_base64 is not base64; encode the bytes of a .mid file") from None

    def _start(self, request: FillRequest, *, has_listeners: bool) -> SharedTask[FillEvent, InfillResponse]:
        async def work(emit: Emit) -> InfillResponse:
            async with self._admitted(request.owner):
                return await self._in_time(self._fill(request, emit if has_listeners else None), request.timeout_s)

        return self._responses.get_or_start(request.cache_key, request.digest(), lambda: SharedTask(work))

    async def _fill(self, request: FillRequest, emit: Emit | None) -> InfillResponse:
        redis_cache, key = self._redis_cache, request.cache_key
        if redis_cache is None or key is None:
            return (await self._sample(request, emit))[0]
        cached = await redis_cache.get(key)
        if cached is not None:
            if cached.digest != request.digest():
                raise key_reused()
            return await self._handler.rebuild(request, cached)
        response, info = await self._sample(request, emit)

        async def store() -> None:
            # After the response has left: serializing it would delay its sending.
            await asyncio.sleep(_CACHE_DELAY_S)
            await redis_cache.put(key, CachedResponse.of(response, info, digest=request.digest()))

        # A retry that comes earlier gets the same response, computed again.
        task = asyncio.create_task(store())
        # asyncio holds only a weak reference.
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return response

    async def _sample(self, request: FillRequest, emit: Emit | None) -> tuple[InfillResponse, ModelInfo]:
        info = await self._routing.choose(request.options.model, request.session or request.owner)
        return await self._handler.fill(request, info, emit), info

    async def _own_pair(self, infill: InfillRequest) -> Pair:
        """Return two different fills of the caller's gap, by champion and challenger where there is one."""
        midi, options = self.unpack(infill)
        first_model = await self.stages.describe(options.model)
        second_model = await self._rival(options.model, first_model)
        options = options.model_copy(update={"sampling": options.sampling.for_comparing()})
        request = FillRequest(midi, options, self._args.deadline_s)
        first = await self._sample_one(request, first_model, request.seed)
        for attempt in range(1, _PAIR_ATTEMPTS + 1):
            second = await self._sample_one(request, second_model, (request.seed + attempt) % MAX_SEED)
            if second.tokens != first.tokens:
                break
        else:
            raise BadRequest("both fills are alike, so there is nothing to compare; raise the temperature")
        filled = [
            (await self.stages.finish(request, [one.tokens], info)).candidates[0]
            for one, info in ((first, first_model), (second, second_model))
        ]
        return make_pair(
            midi,
            piece_id=f"own-{hashlib.sha256(midi).hexdigest()[:24]}",
            region=options.region,
            controls=options.controls,
            first=_candidate(first, filled[0], first_model, options.sampling),
            second=_candidate(second, filled[1], second_model, options.sampling),
        )

    async def _rival(self, reference: str, champion: ModelInfo) -> ModelInfo:
        """Return the challenger; without one, or when the request names a version, return the same model."""
        if reference != "champion":
            return champion
        try:
            return await self.stages.describe("challenger")
        except RegistryError:
            return champion

    async def _sample_one(self, request: FillRequest, info: ModelInfo, seed: int) -> PartialCandidate:
        (candidate,) = [one async for one in CandidateSampler(self.stages, request, info).sample([seed])]
        return candidate

    async def _sound(self, excerpt: Excerpt) -> bytes:
        return await self._in_time(self.stages.sound(excerpt), self._args.deadline_s)

    @asynccontextmanager
    async def _admitted(self, owner: str) -> AsyncIterator[None]:
        """Count a request for the length of the block; raise Overloaded when too many are in progress."""
        self._check_room(owner)
        self._waiting[owner] += 1
        try:
            yield
        finally:
            self._waiting[owner] -= 1
            if not self._waiting[owner]:
                del self._waiting[owner]

    def _check_room(self, owner: str) -> None:
        own, total = self._waiting[owner], self.waiting
        if total >= self._args.max_waiting:
            raise self._overloaded(f"{total} requests wait already")
        if owner and own >= self._args.caller_waiting:
            raise self._overloaded(f"{own} of your requests wait already")

    def _overloaded(self, reason: str) -> Overloaded:
        error = Overloaded(f"{reason}; try again in {self._args.retry_after_s} seconds")
        error.retry_after_s = self._args.retry_after_s
        return error

    async def _in_time(self, work: Awaitable[Result], timeout_s: float) -> Result:
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError:
            raise DeadlineExceeded(
                f"this took longer than {timeout_s:g} seconds; request fewer bars or fewer candidates"
            ) from None


def _candidate(sampled: PartialCandidate, filled: FilledSong, info: ModelInfo, sampling: SamplingSpec) -> Candidate:
    return Candidate(
        model_version=info.version,
        checkpoint_sha256=info.sha256,
        sampling=sampling.model_copy(update={"n": 1, "best_of": None, "seed": sampled.seed}),
        seed=sampled.seed,
        tokens=sampled.tokens,
        midi_sha256=hashlib.sha256(filled.midi).hexdigest(),
        midi_base64=base64.b64encode(filled.midi).decode(),
    )


def _accepted(response: InfillResponse) -> InfillAccepted:
    return InfillAccepted(
        request_id=response.request_id,
        model_version=response.model_version,
        seed=response.seed,
        candidates=len(response.candidates),
    )
