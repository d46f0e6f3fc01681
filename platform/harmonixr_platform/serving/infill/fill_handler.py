"""Fill one gap: from a request to whole files, telling what is decided on the way. Knows no HTTP and no Ray."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from harmonixr_model.engine.request import CellFinished
from harmonixr_model.fill.infiller import MAX_SEED
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.schemas import CandidateView, InfillAccepted, InfillBar, InfillOptions, InfillResponse
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.infill.bar_reader import BarReader
from harmonixr_platform.serving.infill.candidate_sampler import Asked, CandidateSampler, Listener, PartialCandidate
from harmonixr_platform.serving.infill.redis_response_cache import CachedResponse
from harmonixr_platform.serving.infill.response_cache import AudioCache
from harmonixr_platform.serving.infill.sessions import read_song, region_of
from harmonixr_platform.serving.transport.messages import Excerpt, Filled, Finished, ModelInfo
from harmonixr_platform.serving.transport.stages import Stages

Told: TypeAlias = InfillAccepted | InfillBar | CandidateView
Tell: TypeAlias = Callable[[Told], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """One request, read: what to fill, whose it is, and since when (`time.perf_counter`) it has been here."""

    midi: bytes = field(repr=False)
    options: InfillOptions
    seed: int
    owner: str
    ends: float
    began: float
    ingress_s: float


@dataclass(frozen=True, slots=True)
class _Made:
    """A candidate as it is answered, and how long each stage took for it."""

    view: CandidateView
    spent_s: dict[str, float]


class FillHandler:
    """Makes answers. One an ingress replica."""

    def __init__(self, stages: Stages, args: ServingArgs, sounds: AudioCache[Excerpt]) -> None:
        self._stages = stages
        self._args = args
        self._sounds = sounds

    async def fill(self, wish: Wish, info: ModelInfo, tell: Tell | None) -> InfillResponse:
        """Return the fills; `tell` hears of everything as soon as it is decided."""
        sampling = wish.options.sampling
        count = sampling.best_of or sampling.n
        seeds = [(wish.seed + i) % MAX_SEED for i in range(count)]
        request_id = secrets.token_hex(8)
        listener = None
        if tell:
            accepted = InfillAccepted(
                request_id=request_id, model_version=info.version, seed=wish.seed, candidates=sampling.n
            )
            listener = self._listener(wish, accepted, tell)
        asked = Asked(wish.midi, wish.options, info, wish.owner, wish.ends)
        drawing = CandidateSampler(self._stages, asked, listener=listener)
        if sampling.best_of is None:
            return _answer(request_id, wish, info, await self._finish_each(wish, drawing, seeds, info, tell))
        drafts = sorted([draft async for draft in drawing.draw(seeds)], key=lambda draft: draft.candidate)
        scores = await self._stages.rank(wish.midi, wish.options, [draft.tokens for draft in drafts], info)
        order = sorted(range(len(drafts)), key=lambda i: -scores.scores[i])[: sampling.n]
        best = [replace(drafts[i], candidate=place) for place, i in enumerate(order)]
        made = await self._finish(wish, best, info, rewards=[scores.scores[i] for i in order])
        if tell:
            for one in made:
                tell(one.view)
        return _answer(request_id, wish, info, made, reward_version=scores.version)

    async def remake(self, wish: Wish, said: CachedResponse) -> InfillResponse:
        """Return an answer again from what the model said then."""
        drafts = [
            PartialCandidate(i, one.seed, one.tokens, one.log_probability) for i, one in enumerate(said.candidates)
        ]
        made = await self._finish(wish, drafts, said.info, rewards=[one.reward for one in said.candidates])
        wish = replace(wish, seed=said.seed)
        return _answer(said.request_id, wish, said.info, made, reward_version=said.reward_version)

    async def _finish(
        self, wish: Wish, drafts: Sequence[PartialCandidate], info: ModelInfo, *, rewards: Sequence[float | None]
    ) -> list[_Made]:
        """Return drafts as music."""
        tokens = [draft.tokens for draft in drafts]
        finished = await self._stages.finish(wish.midi, wish.options, tokens, info)
        return [
            self._render(draft, filled, finished, reward)
            for draft, filled, reward in zip(drafts, finished.candidates, rewards, strict=True)
        ]

    async def _finish_each(
        self, wish: Wish, drawing: CandidateSampler, seeds: Sequence[int], info: ModelInfo, tell: Tell | None
    ) -> list[_Made]:
        """Put each candidate into the song while others are still being drawn."""

        async def finish(draft: PartialCandidate) -> _Made:
            (made,) = await self._finish(wish, [draft], info, rewards=[None])
            if tell:
                tell(made.view)
            return made

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(finish(draft)) async for draft in drawing.draw(seeds)]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return sorted((task.result() for task in tasks), key=lambda made: made.view.index)

    def _listener(self, wish: Wish, accepted: InfillAccepted, tell: Tell) -> Listener:
        reading: list[asyncio.Task[BarReader]] = []

        def taken() -> None:
            if not reading:
                # While the model reads the prompt; of a song planned in this process nothing is left to read.
                reading.append(asyncio.create_task(self._read_bars(wish)))
                tell(accepted)

        async def decided(prompt: InfillPrompt, event: CellFinished, draft: PartialCandidate) -> None:
            reader = await reading[0]
            tell(reader.read(prompt, event, candidate=draft.candidate, seed=draft.seed))

        return Listener(taken, decided)

    async def _read_bars(self, wish: Wish) -> BarReader:
        song = await asyncio.to_thread(read_song, wish.midi, self._args.max_midi_bytes)
        return BarReader(song, region_of(song, wish.options))

    def _render(self, draft: PartialCandidate, filled: Filled, finished: Finished, reward: float | None) -> _Made:
        started = time.perf_counter()
        token = self._sounds.put(Excerpt(filled.midi, finished.start_s, finished.end_s))
        view = CandidateView(
            index=draft.candidate,
            seed=draft.seed,
            midi_base64=base64.b64encode(filled.midi).decode(),
            notes=filled.notes,
            tokens=draft.tokens,
            log_probability=draft.log_probability,
            reward=reward,
            audio_url=f"/v1/audio/{token}",
        )
        render_s = time.perf_counter() - started
        return _Made(view, {**draft.spent_s, "splice": finished.took_s, "render": render_s})


def _answer(
    request_id: str, wish: Wish, info: ModelInfo, made: Sequence[_Made], *, reward_version: str | None = None
) -> InfillResponse:
    return InfillResponse(
        request_id=request_id,
        model_version=info.version,
        checkpoint_sha256=info.sha256,
        precision=info.precision,
        reward_version=reward_version,
        seed=wish.seed,
        candidates=tuple(one.view for one in made),
        timings_ms=_timings_ms(wish, made),
    )


def _timings_ms(wish: Wish, made: Sequence[_Made]) -> dict[str, float]:
    """Return how long each stage took for the candidate that took longest; `graph` is what was spent between them."""
    total_s = time.perf_counter() - wish.began + wish.ingress_s
    slowest = max(made, key=lambda one: sum(one.spent_s.values()))
    spent = {"ingress": wish.ingress_s, **slowest.spent_s}
    spent |= {"graph": max(0.0, total_s - sum(spent.values())), "total": total_s}
    return {stage: round(1000 * took_s, 2) for stage, took_s in spent.items()}
