"""What the service does, without HTTP and without Ray: infill, compare, judge, listen.

Everything is asked of the other stages through `Stages`; here is only the order in which, limits, and memory.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
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
from harmonixr_platform.serving.errors import BadRequest, DeadlineExceeded, Overloaded, TooLarge
from harmonixr_platform.serving.infill.candidate_sampler import Asked, CandidateSampler, PartialCandidate
from harmonixr_platform.serving.infill.fill_handler import FillHandler, Tell, Told, Wish
from harmonixr_platform.serving.infill.redis_response_cache import RedisResponseCache, said
from harmonixr_platform.serving.infill.response_cache import AudioCache, ResponseCache, key_reused, seed_for
from harmonixr_platform.serving.infill.shared_task import SharedTask
from harmonixr_platform.serving.infill.version_routing import Routing
from harmonixr_platform.serving.transport.messages import Excerpt, Filled, ModelInfo
from harmonixr_platform.serving.transport.stages import Stages
from harmonixr_platform.stores.streams import Backlog

Result = TypeVar("Result")
# How often a second blind fill is drawn anew when it comes out like the first.
_PAIR_ATTEMPTS = 3
_ANSWERED_AFTER_S = 0.01  # by then an answer that was made is on its way


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `name` is what bounds are counted by, `session` what a canary is chosen by."""

    name: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a request wants to be treated.

    Attributes:
        key: its Idempotency-Key.
        caller: who asks.
        timeout_s: how long it waits; never more than the service's own deadline.
        ingress_s: how long it has been here.

    """

    key: str | None = None
    caller: Caller = Caller()
    timeout_s: float | None = None
    ingress_s: float = 0.0


class Service:
    """The use cases behind the routes. One an ingress replica; made for one event loop."""

    def __init__(self, stages: Stages, args: ServingArgs, *, recall: RedisResponseCache | None = None) -> None:
        self.stages = stages
        self._args = args
        self._recall = recall
        self._routing = Routing(stages, args)
        self._answers: ResponseCache[Told, InfillResponse] = ResponseCache(
            args.cached_responses, max_weight=args.cached_response_bytes, weigh=_weigh
        )
        self._sounds: AudioCache[Excerpt] = AudioCache(args.cached_sounds)
        self._filler = FillHandler(stages, args, self._sounds)
        self._waiting: Counter[str] = Counter()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many requests are being filled or wait to be."""
        return self._waiting.total()

    async def infill(self, midi: bytes, options: InfillOptions, terms: Terms = Terms()) -> InfillResponse:
        """Return fills of one gap. The same key and request give the same answer."""
        return await self._begin(midi, options, terms, is_told=False).answer()

    async def infill_events(
        self, midi: bytes, options: InfillOptions, terms: Terms = Terms()
    ) -> AsyncIterator[InfillEvent]:
        """Give `infill`'s answer as it is made: accepted, bars and candidates, and last what made them."""
        sent: set[int | str] = set()
        async with aclosing(self._begin(midi, options, terms, is_told=True).follow()) as events:  # type: ignore[type-var]
            async for event in events:
                if not isinstance(event, InfillResponse):
                    sent.add(event.index if isinstance(event, CandidateView) else type(event).__name__)
                    yield event
                    continue
                # One who joins a making that told nobody, or is answered from memory, still gets every event.
                if InfillAccepted.__name__ not in sent:
                    yield _accepted(event)
                for candidate in event.candidates:
                    if candidate.index not in sent:
                        yield candidate
                yield _done(event)

    async def compare(self, request: ComparisonRequest, caller: Caller = Caller()) -> ComparisonView:
        """Show two blind fills: of a pool, or just made of the caller's own gap."""
        if request.infill is None:
            return await self.stages.compare(request, None)
        # Before the fills are made: they are what costs.
        await self.stages.admit(request.rater_key)
        async with self._admitted(caller):
            own = await self._in_time(self._own_pair(request.infill, caller), self._args.deadline_s)
        return await self.stages.compare(request, own)

    async def judge(self, request: JudgmentRequest) -> JudgmentReceipt:
        """Record an answer; it is on disk when this returns."""
        return await self.stages.judge(request)

    async def retract(self, request: RetractionRequest) -> RetractionReceipt:
        """Take a judgment back; it is on disk when this returns."""
        return await self.stages.retract(request)

    async def erase(self, request: ErasureRequest) -> ErasureReceipt:
        """Erase a rater; the request is on disk when this returns."""
        return await self.stages.erase(request)

    async def inspect(self, midi_base64: str) -> InspectResponse:
        """Return what a file holds."""
        return await self.stages.inspect(self.decode(midi_base64))

    async def preview(self, midi_base64: str, start_s: float, end_s: float | None) -> bytes:
        """Return a stretch of a file as WAV."""
        return await self._in_time(
            self.stages.sound(Excerpt(self.decode(midi_base64), start_s, end_s)), self._args.deadline_s
        )

    async def sound(self, token: str) -> bytes:
        """Return the WAV of a token that an infill or a comparison gave."""
        excerpt = self._sounds.get(token) or await self.stages.comparison_sound(token)
        return await self._in_time(self.stages.sound(excerpt), self._args.deadline_s)

    async def models(self) -> ModelsResponse:
        """Return the versions there are."""
        return await self.stages.models()

    async def leaderboard(self, study: str | None = None) -> dict[str, Any]:
        """Return the models ranked by what was judged, in one study or pool or in all."""
        return await self.stages.leaderboard(study)

    async def backlog(self) -> Backlog:
        """Return which judgments wait to be carried to objects."""
        return await self.stages.backlog()

    async def probe(self) -> ModelInfo:
        """Decode a token; return the version that did."""
        return await self._in_time(self.stages.probe(), self._args.deadline_s)

    def decode(self, midi_base64: str) -> bytes:
        """Return the file that base64 text holds; raises BadRequest, TooLarge."""
        limit = self._args.max_midi_bytes
        if len(midi_base64) > (limit + 2) // 3 * 4:
            raise TooLarge(f"the MIDI file is larger than {limit // 2**20} MiB, the most that is read")
        try:
            return base64.b64decode(midi_base64, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("midi_base64 is not base64; encode the bytes of a .mid file") from None

    def _begin(
        self, midi: bytes, options: InfillOptions, terms: Terms, *, is_told: bool
    ) -> SharedTask[Told, InfillResponse]:
        digest = hashlib.sha256(midi + options.model_dump_json().encode()).hexdigest()
        # One caller's keys are no other's.
        key = f"{terms.caller.name}:{terms.key}" if terms.key is not None else None

        async def make(tell: Tell) -> InfillResponse:
            async with self._admitted(terms.caller):
                answer = self._infill(midi, options, terms, key, digest, tell if is_told else None)
                return await self._in_time(answer, self._timeout_s(terms))

        return self._answers.get_or_begin(key, digest, lambda: SharedTask(make))

    async def _infill(
        self, midi: bytes, options: InfillOptions, terms: Terms, key: str | None, digest: str, tell: Tell | None
    ) -> InfillResponse:
        given = options.sampling.seed
        caller = terms.caller
        wish = Wish(
            midi=midi,
            options=options,
            seed=seed_for(terms.key) if given is None else given,
            owner=caller.name,
            ends=asyncio.get_running_loop().time() + self._timeout_s(terms),
            began=time.perf_counter(),
            ingress_s=terms.ingress_s,
        )
        if key is not None and self._recall is not None:
            known = await self._recall.get(key)
            if known is not None:
                if known.digest != digest:
                    raise key_reused()
                return await self._filler.remake(wish, known)
        info = await self._routing.choose(options.model, caller.session or caller.name)
        answer = await self._filler.fill(wish, info, tell)
        if key is not None and self._recall is not None:
            # Not waited for: whoever asks again before it is there gets the same answer, computed again.
            self._in_background(self._remember(self._recall, key, answer, info, digest))
        return answer

    async def _remember(
        self, recall: RedisResponseCache, key: str, answer: InfillResponse, info: ModelInfo, digest: str
    ) -> None:
        # The answer goes first: writing it down takes the interpreter from whoever sends it.
        await asyncio.sleep(_ANSWERED_AFTER_S)
        await recall.put(key, said(answer, info, digest=digest))

    async def _own_pair(self, request: InfillRequest, caller: Caller) -> Pair:
        """Make two different fills of the caller's gap: by champion and challenger where there is one."""
        midi, options = self.decode(request.midi_base64), InfillOptions(**_without_midi(request))
        first_model = await self.stages.describe(options.model)
        second_model = await self._rival(options.model, first_model)
        options = options.model_copy(update={"sampling": options.sampling.for_comparing()})
        seed = seed_for(None) if options.sampling.seed is None else options.sampling.seed
        ends = asyncio.get_running_loop().time() + self._args.deadline_s
        first = await self._draw_one(Asked(midi, options, first_model, caller.name, ends), seed)
        for attempt in range(1, _PAIR_ATTEMPTS + 1):
            asked = Asked(midi, options, second_model, caller.name, ends)
            second = await self._draw_one(asked, (seed + attempt) % MAX_SEED)
            if second.tokens != first.tokens:
                break
        else:
            raise BadRequest("both fills came out alike, so there is nothing to compare; raise the temperature")
        filled = [
            (await self.stages.finish(midi, options, [draft.tokens], info)).candidates[0]
            for draft, info in ((first, first_model), (second, second_model))
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
        """Return the challenger; where there is none, or a version was asked for by name, the same model again."""
        if reference != "champion":
            return champion
        try:
            return await self.stages.describe("challenger")
        except RegistryError:
            return champion

    async def _draw_one(self, asked: Asked, seed: int) -> PartialCandidate:
        (draft,) = [draft async for draft in CandidateSampler(self.stages, asked).draw([seed])]
        return draft

    @asynccontextmanager
    async def _admitted(self, caller: Caller) -> AsyncIterator[None]:
        """Let work in unless too much waits already, of all callers or of this one."""
        self._check_room(caller)
        self._waiting[caller.name] += 1
        try:
            yield
        finally:
            self._waiting[caller.name] -= 1
            if not self._waiting[caller.name]:
                del self._waiting[caller.name]

    def _check_room(self, caller: Caller) -> None:
        own, all_ = self._waiting[caller.name], self.waiting
        seconds = f"try again in {self._args.retry_after_s} seconds"
        if all_ >= self._args.max_waiting:
            raise self._overloaded(f"{all_} requests wait already; {seconds}")
        if caller.name and own >= self._args.caller_waiting:
            raise self._overloaded(f"{own} of your requests wait already; {seconds}")

    def _overloaded(self, detail: str) -> Overloaded:
        error = Overloaded(detail)
        error.retry_after_s = self._args.retry_after_s
        return error

    def _timeout_s(self, terms: Terms) -> float:
        return min(self._args.deadline_s, terms.timeout_s or self._args.deadline_s)

    async def _in_time(self, work: Awaitable[Result], timeout_s: float) -> Result:
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError:
            raise DeadlineExceeded(
                f"this took longer than {timeout_s:g} seconds; ask for fewer bars or fewer candidates"
            ) from None

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        # A task that nobody holds may be collected before it ran.
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _candidate(draft: PartialCandidate, filled: Filled, info: ModelInfo, sampling: SamplingSpec) -> Candidate:
    return Candidate(
        model_version=info.version,
        checkpoint_sha256=info.sha256,
        sampling=sampling.model_copy(update={"n": 1, "best_of": None, "seed": draft.seed}),
        seed=draft.seed,
        tokens=draft.tokens,
        midi_sha256=hashlib.sha256(filled.midi).hexdigest(),
        midi_base64=base64.b64encode(filled.midi).decode(),
    )


def _without_midi(request: InfillRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in InfillOptions.model_fields}


def _weigh(answer: InfillResponse) -> int:
    return sum(len(candidate.midi_base64) for candidate in answer.candidates)


def _accepted(answer: InfillResponse) -> InfillAccepted:
    return InfillAccepted(
        request_id=answer.request_id,
        model_version=answer.model_version,
        seed=answer.seed,
        candidates=len(answer.candidates),
    )


def _done(answer: InfillResponse) -> InfillDone:
    return InfillDone(**{name: getattr(answer, name) for name in InfillDone.model_fields})
