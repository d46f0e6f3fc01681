"""Fill one gap: from a request to whole files, with events for what is decided on the way."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from harmonixr_model.engine.request import CellFinished
from harmonixr_model.fill.infiller import MAX_SEED
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.schemas import CandidateView, InfillAccepted, InfillBar, InfillResponse
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.infill.bar_reader import BarReader
from harmonixr_platform.serving.infill.candidate_sampler import CandidateSampler, Listener, PartialCandidate
from harmonixr_platform.serving.infill.redis_response_cache import CachedResponse
from harmonixr_platform.serving.infill.response_cache import AudioCache
from harmonixr_platform.serving.infill.session_cache import read_song, region_of
from harmonixr_platform.serving.transport.messages import Excerpt, FilledSong, FillRequest, FinishedFills, ModelInfo
from harmonixr_platform.serving.transport.stages import Stages

FillEvent: TypeAlias = InfillAccepted | InfillBar | CandidateView
Emit: TypeAlias = Callable[[FillEvent], None]


@dataclass(frozen=True, slots=True)
class _FinishedCandidate:
    """A candidate of the response, and how long each stage took for it."""

    view: CandidateView
    stage_s: dict[str, float]


class FillHandler:
    """Makes the responses of an ingress replica."""

    def __init__(self, stages: Stages, args: ServingArgs, sounds: AudioCache[Excerpt]) -> None:
        self._stages = stages
        self._args = args
        self._sounds = sounds

    async def fill(self, request: FillRequest, info: ModelInfo, emit: Emit | None) -> InfillResponse:
        """Return the fills; `emit` gets each event as soon as it is decided."""
        sampling = request.options.sampling
        seeds = [(request.seed + i) % MAX_SEED for i in range(sampling.best_of or sampling.n)]
        request_id = secrets.token_hex(8)
        listener = None
        if emit:
            accepted = InfillAccepted(
                request_id=request_id, model_version=info.version, seed=request.seed, candidates=sampling.n
            )
            listener = self._listener(request, accepted, emit)
        sampler = CandidateSampler(self._stages, request, info, listener=listener)
        if sampling.best_of is None:
            return _response(request_id, request, info, await self._finish_each(request, sampler, seeds, info, emit))
        sampled = sorted([one async for one in sampler.sample(seeds)], key=lambda one: one.candidate)
        scores = await self._stages.rank(request, [one.tokens for one in sampled], info)
        order = sorted(range(len(sampled)), key=lambda i: -scores.scores[i])[: sampling.n]
        best = [replace(sampled[i], candidate=rank) for rank, i in enumerate(order)]
        finished = await self._finish(request, best, info, rewards=[scores.scores[i] for i in order])
        if emit:
            for one in finished:
                emit(one.view)
        return _response(request_id, request, info, finished, reward_version=scores.version)

    async def rebuild(self, request: FillRequest, cached: CachedResponse) -> InfillResponse:
        """Return a response again, from the tokens of the first time."""
        candidates = [
            PartialCandidate(i, one.seed, one.tokens, one.log_probability) for i, one in enumerate(cached.candidates)
        ]
        rewards = [one.reward for one in cached.candidates]
        finished = await self._finish(request, candidates, cached.info, rewards=rewards)
        return _response(cached.request_id, request, cached.info, finished, reward_version=cached.reward_version)

    async def _finish(
        self,
        request: FillRequest,
        candidates: Sequence[PartialCandidate],
        info: ModelInfo,
        *,
        rewards: Sequence[float | None],
    ) -> list[_FinishedCandidate]:
        """Return candidates as music."""
        fills = await self._stages.finish(request, [one.tokens for one in candidates], info)
        return [
            self._render(candidate, song, fills, reward)
            for candidate, song, reward in zip(candidates, fills.candidates, rewards, strict=True)
        ]

    async def _finish_each(
        self,
        request: FillRequest,
        sampler: CandidateSampler,
        seeds: Sequence[int],
        info: ModelInfo,
        emit: Emit | None,
    ) -> list[_FinishedCandidate]:
        """Finish each candidate while the model still samples others."""

        async def finish(candidate: PartialCandidate) -> _FinishedCandidate:
            (finished,) = await self._finish(request, [candidate], info, rewards=[None])
            if emit:
                emit(finished.view)
            return finished

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(finish(one)) async for one in sampler.sample(seeds)]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return sorted((task.result() for task in tasks), key=lambda one: one.view.index)

    def _listener(self, request: FillRequest, event: InfillAccepted, emit: Emit) -> Listener:
        reading: list[asyncio.Task[BarReader]] = []

        def accepted() -> None:
            if not reading:
                # The model reads the prompt meanwhile. A song that this process tokenized is already in its cache.
                reading.append(asyncio.create_task(self._read_bars(request)))
                emit(event)

        async def decided(prompt: InfillPrompt, cell: CellFinished, candidate: PartialCandidate) -> None:
            reader = await reading[0]
            emit(reader.read(prompt, cell, candidate=candidate.candidate, seed=candidate.seed))

        return Listener(accepted, decided)

    async def _read_bars(self, request: FillRequest) -> BarReader:
        song = await asyncio.to_thread(read_song, request.midi, self._args.max_midi_bytes)
        return BarReader(song, region_of(song, request.options))

    def _render(
        self, candidate: PartialCandidate, song: FilledSong, fills: FinishedFills, reward: float | None
    ) -> _FinishedCandidate:
        started = time.perf_counter()
        token = self._sounds.put(Excerpt(song.midi, fills.start_s, fills.end_s))
        view = CandidateView(
            index=candidate.candidate,
            seed=candidate.seed,
            midi_base64=base64.b64encode(song.midi).decode(),
            notes=song.notes,
            tokens=candidate.tokens,
            log_probability=candidate.log_probability,
            reward=reward,
            audio_url=f"/v1/audio/{token}",
        )
        render_s = time.perf_counter() - started
        return _FinishedCandidate(view, {**candidate.stage_s, "splice": fills.took_s, "render": render_s})


def _response(
    request_id: str,
    request: FillRequest,
    info: ModelInfo,
    candidates: Sequence[_FinishedCandidate],
    *,
    reward_version: str | None = None,
) -> InfillResponse:
    return InfillResponse(
        request_id=request_id,
        model_version=info.version,
        checkpoint_sha256=info.sha256,
        precision=info.precision,
        reward_version=reward_version,
        seed=request.seed,
        candidates=tuple(one.view for one in candidates),
        timings_ms=_timings_ms(request, candidates),
    )


def _timings_ms(request: FillRequest, candidates: Sequence[_FinishedCandidate]) -> dict[str, float]:
    """Return the time in each stage for the slowest candidate; `graph` is the time between stages."""
    total_s = time.perf_counter() - request.received
    slowest = max(candidates, key=lambda one: sum(one.stage_s.values()))
    stage_s = {"ingress": request.parsed - request.received, **slowest.stage_s}
    stage_s |= {"graph": max(0.0, total_s - sum(stage_s.values())), "total": total_s}
    return {stage: round(1000 * took_s, 2) for stage, took_s in stage_s.items()}
