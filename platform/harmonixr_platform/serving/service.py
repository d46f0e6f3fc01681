"""What the service does, without HTTP and without Ray: infill, compare, judge, listen.

Everything is asked of the other stages through `Stages`; here is only the order in which, limits, and memory.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from harmonixr_model.infiller import MAX_SEED, window_seed
from harmonixr_platform.feedback.pairs import make_pair
from harmonixr_platform.registry import RegistryError
from harmonixr_platform.schemas import (
    Candidate,
    CandidateView,
    ComparisonRequest,
    ComparisonView,
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
from harmonixr_platform.serving.answers import AnswerMemory, SoundMemory, seed_for
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.errors import BadRequest, DeadlineExceeded, Overloaded, TooLarge
from harmonixr_platform.serving.messages import Drawn, Excerpt, Filled, FillTokens, ModelInfo
from harmonixr_platform.serving.stages import Stages
from harmonixr_platform.stores.streams import Backlog

Result = TypeVar("Result")
# How often a second blind fill is drawn anew when it comes out like the first.
_PAIR_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Draft:
    """A candidate while its windows are being filled."""

    seed: int
    tokens: FillTokens = ()
    log_probability: float = 0.0

    def then(self, drawn: Drawn) -> _Draft:
        return _Draft(self.seed, (*self.tokens, drawn.tokens), self.log_probability + drawn.log_probability)


class Service:
    """The use cases behind the routes. One an ingress replica; made for one event loop."""

    def __init__(self, stages: Stages, args: ServingArgs) -> None:
        self.stages = stages
        self._args = args
        self._answers: AnswerMemory[InfillResponse] = AnswerMemory(args.remembered_answers)
        self._sounds: SoundMemory[Excerpt] = SoundMemory(args.remembered_sounds)
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many requests are being filled or wait to be."""
        return self._waiting

    async def infill(self, midi: bytes, options: InfillOptions, *, key: str | None = None) -> InfillResponse:
        """Return fills of one gap. The same `key` and request give the same answer."""
        digest = hashlib.sha256(midi + options.model_dump_json().encode()).digest()
        return await self._answers.get_or_make(key, digest, lambda: self._admitted(self._infill(midi, options, key)))

    async def compare(self, request: ComparisonRequest) -> ComparisonView:
        """Show two blind fills: of a pool, or just made of the caller's own gap."""
        if request.infill is None:
            return await self.stages.compare(request, None)
        # Before the fills are made: they are what costs.
        await self.stages.admit(request.rater_key)
        own = await self._admitted(self._own_pair(request.infill))
        return await self.stages.compare(request, own)

    async def judge(self, request: JudgmentRequest) -> JudgmentReceipt:
        """Record an answer; it is on disk when this returns."""
        return await self.stages.judge(request)

    async def retract(self, request: RetractionRequest) -> RetractionReceipt:
        """Take a judgment back; it is on disk when this returns."""
        return await self.stages.retract(request)

    async def inspect(self, midi_base64: str) -> InspectResponse:
        """Return what a file holds."""
        return await self.stages.inspect(self.decode(midi_base64))

    async def preview(self, midi_base64: str, start_s: float, end_s: float | None) -> bytes:
        """Return a stretch of a file as WAV."""
        return await self._in_time(self.stages.sound(Excerpt(self.decode(midi_base64), start_s, end_s)))

    async def sound(self, token: str) -> bytes:
        """Return the WAV of a token that an infill or a comparison gave."""
        excerpt = self._sounds.get(token) or await self.stages.comparison_sound(token)
        return await self._in_time(self.stages.sound(excerpt))

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
        return await self._in_time(self.stages.probe())

    def decode(self, midi_base64: str) -> bytes:
        """Return the file that base64 text holds; raises BadRequest, TooLarge."""
        limit = self._args.max_midi_bytes
        if len(midi_base64) > (limit + 2) // 3 * 4:
            raise TooLarge(f"the MIDI file is larger than {limit // 2**20} MiB, the most that is read")
        try:
            return base64.b64decode(midi_base64, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("midi_base64 is not base64; encode the bytes of a .mid file") from None

    async def _infill(self, midi: bytes, options: InfillOptions, key: str | None) -> InfillResponse:
        started = time.perf_counter()
        sampling = options.sampling
        seed = seed_for(key) if sampling.seed is None else sampling.seed
        info = await self.stages.describe(options.model)
        drafts = await self._draw(midi, options, info, seed=seed, count=sampling.best_of or sampling.n)
        generated = time.perf_counter()
        rewards: tuple[float | None, ...] = (None,) * len(drafts)
        reward_version = None
        if sampling.best_of is not None:
            scores = await self.stages.rank(midi, options, [draft.tokens for draft in drafts], info)
            order = sorted(range(len(drafts)), key=lambda i: -scores.scores[i])[: sampling.n]
            drafts, rewards = [drafts[i] for i in order], tuple(scores.scores[i] for i in order)
            reward_version = scores.version
        filled = await self.stages.finish(midi, options, [draft.tokens for draft in drafts], info)
        stretch = await self.stages.excerpt(midi, options)
        done = time.perf_counter()
        return InfillResponse(
            request_id=secrets.token_hex(8),
            model_version=info.version,
            checkpoint_sha256=info.sha256,
            reward_version=reward_version,
            seed=seed,
            candidates=tuple(
                self._view(index, draft, candidate, reward, stretch)
                for index, (draft, candidate, reward) in enumerate(zip(drafts, filled, rewards, strict=True))
            ),
            timings_ms={
                "generate": round(1000 * (generated - started), 1),
                "finish": round(1000 * (done - generated), 1),
                "total": round(1000 * (done - started), 1),
            },
        )

    async def _draw(
        self, midi: bytes, options: InfillOptions, info: ModelInfo, *, seed: int, count: int
    ) -> list[_Draft]:
        """Fill the windows of a region in order, each candidate seeing its own earlier ones."""
        drafts = [_Draft((seed + i) % MAX_SEED) for i in range(count)]
        # The first window is the same for all candidates: they share one prompt, which is read once.
        first = await self.stages.window(midi, options, (), info)
        waiting = dict.fromkeys(range(count), first)
        while waiting:
            jobs = [
                (window.prompt, window_seed(drafts[i].seed, len(drafts[i].tokens))) for i, window in waiting.items()
            ]
            drawn = await self.stages.generate(info.version, jobs, options.sampling)
            for i, one in zip(waiting, drawn, strict=True):
                drafts[i] = drafts[i].then(one)
            unfinished = [i for i, window in waiting.items() if not window.is_last]
            windows = (self.stages.window(midi, options, drafts[i].tokens, info) for i in unfinished)
            waiting = dict(zip(unfinished, await asyncio.gather(*windows), strict=True))
        return drafts

    def _view(self, index: int, draft: _Draft, filled: Filled, reward: float | None, stretch: Excerpt) -> CandidateView:
        token = self._sounds.put(Excerpt(filled.midi, stretch.start_s, stretch.end_s))
        return CandidateView(
            index=index,
            seed=draft.seed,
            midi_base64=base64.b64encode(filled.midi).decode(),
            notes=filled.notes,
            tokens=draft.tokens,
            log_probability=draft.log_probability,
            reward=reward,
            audio_url=f"/v1/audio/{token}",
        )

    async def _own_pair(self, request: InfillRequest) -> Pair:
        """Make two different fills of the caller's gap: by champion and challenger where there is one."""
        midi, options = self.decode(request.midi_base64), InfillOptions(**_without_midi(request))
        first_model = await self.stages.describe(options.model)
        second_model = await self._rival(options.model, first_model)
        seed = seed_for(None) if options.sampling.seed is None else options.sampling.seed
        first = (await self._draw(midi, options, first_model, seed=seed, count=1))[0]
        for attempt in range(1, _PAIR_ATTEMPTS + 1):
            second = (await self._draw(midi, options, second_model, seed=(seed + attempt) % MAX_SEED, count=1))[0]
            if second.tokens != first.tokens:
                break
        else:
            raise BadRequest("both fills came out alike, so there is nothing to compare; raise the temperature")
        filled = [
            (await self.stages.finish(midi, options, [draft.tokens], info))[0]
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

    async def _admitted(self, work: Awaitable[Result]) -> Result:
        """Let the work in unless too much waits already, and hold it to the deadline."""
        if self._waiting >= self._args.max_waiting:
            _close(work)
            raise Overloaded(f"{self._waiting} requests wait already; try again in {self._args.retry_after_s} seconds")
        self._waiting += 1
        try:
            return await self._in_time(work)
        finally:
            self._waiting -= 1

    async def _in_time(self, work: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(self._args.deadline_s):
                return await work
        except TimeoutError:
            raise DeadlineExceeded(
                f"this took longer than {self._args.deadline_s:g} seconds; ask for fewer bars or fewer candidates"
            ) from None


def _candidate(draft: _Draft, filled: Filled, info: ModelInfo, sampling: SamplingSpec) -> Candidate:
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


def _close(work: Awaitable[Any]) -> None:
    # A coroutine that never ran warns when it is collected.
    close: Callable[[], None] | None = getattr(work, "close", None)
    if close:
        close()
