"""Fill one gap: from a request to whole files, telling what is decided on the way. Knows no HTTP and no Ray."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from harmonixr_model.engine.ticket import CellDecided
from harmonixr_model.infiller import MAX_SEED
from harmonixr_model.tokens.infill import InfillPrompt
from harmonixr_platform.schemas import CandidateView, InfillAccepted, InfillBar, InfillOptions, InfillResponse
from harmonixr_platform.serving.answers import SoundMemory
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.bars import BarReader
from harmonixr_platform.serving.drawing import Asked, Draft, Drawing, Listener
from harmonixr_platform.serving.messages import Excerpt, Filled, Finished, ModelInfo
from harmonixr_platform.serving.recall import SaidAnswer
from harmonixr_platform.serving.sessions import read_song, region_of
from harmonixr_platform.serving.stages import Stages

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
    """A candidate as music, and how long making it took."""

    draft: Draft
    filled: Filled
    excerpt: Excerpt
    splice_s: float


class Filler:
    """Makes answers. One an ingress replica."""

    def __init__(self, stages: Stages, args: ServingArgs, sounds: SoundMemory[Excerpt]) -> None:
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
            listener = await self._listener(wish, accepted, tell)
        asked = Asked(wish.midi, wish.options, info, wish.owner, wish.ends)
        drawing = Drawing(self._stages, asked, listener=listener)
        if sampling.best_of is None:
            made, views = await self._finish_each(wish, drawing, seeds, info, tell)
            return _answer(request_id, wish, info, views, made)
        drafts = sorted([draft async for draft in drawing.draw(seeds)], key=lambda draft: draft.candidate)
        scores = await self._stages.rank(wish.midi, wish.options, [draft.tokens for draft in drafts], info)
        order = sorted(range(len(drafts)), key=lambda i: -scores.scores[i])[: sampling.n]
        made = await self.finish(wish, [drafts[i] for i in order], info)
        views = tuple(self._view(n, one, scores.scores[i]) for n, (i, one) in enumerate(zip(order, made, strict=True)))
        for view in views if tell else ():
            tell(view)  # type: ignore[misc]  # there is one, or there are no views here
        return _answer(request_id, wish, info, views, made, reward_version=scores.version)

    async def remake(self, wish: Wish, said: SaidAnswer) -> InfillResponse:
        """Return an answer again from what the model said then."""
        drafts = [Draft(i, one.seed, one.tokens, one.log_probability) for i, one in enumerate(said.candidates)]
        made = await self.finish(wish, drafts, said.info)
        rewards = [one.reward for one in said.candidates]
        views = tuple(self._view(i, one, reward) for i, (one, reward) in enumerate(zip(made, rewards, strict=True)))
        wish = replace(wish, seed=said.seed)
        return _answer(said.request_id, wish, said.info, views, made, reward_version=said.reward_version)

    async def finish(self, wish: Wish, drafts: Sequence[Draft], info: ModelInfo) -> tuple[_Made, ...]:
        """Return drafts as music."""
        tokens = [draft.tokens for draft in drafts]
        finished: Finished = await self._stages.finish(wish.midi, wish.options, tokens, info)
        return tuple(
            _Made(draft, filled, Excerpt(filled.midi, finished.start_s, finished.end_s), finished.took_s)
            for draft, filled in zip(drafts, finished.candidates, strict=True)
        )

    async def _finish_each(
        self, wish: Wish, drawing: Drawing, seeds: Sequence[int], info: ModelInfo, tell: Tell | None
    ) -> tuple[tuple[_Made, ...], tuple[CandidateView, ...]]:
        """Put each candidate into the song while others are still being drawn."""

        async def finish(draft: Draft) -> tuple[_Made, CandidateView]:
            (made,) = await self.finish(wish, [draft], info)
            view = self._view(draft.candidate, made, None)
            if tell:
                tell(view)
            return made, view

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(finish(draft)) async for draft in drawing.draw(seeds)]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        done = sorted((task.result() for task in tasks), key=lambda pair: pair[1].index)
        return tuple(made for made, _ in done), tuple(view for _, view in done)

    async def _listener(self, wish: Wish, accepted: InfillAccepted, tell: Tell) -> Listener:
        song = await asyncio.to_thread(read_song, wish.midi, self._args.max_midi_bytes)
        reader = BarReader(song, region_of(song, wish.options))
        heard: list[bool] = []

        def taken() -> None:
            if not heard:
                heard.append(True)
                tell(accepted)

        def decided(prompt: InfillPrompt, event: CellDecided, draft: Draft) -> None:
            tell(reader.read(prompt, event, candidate=draft.candidate, seed=draft.seed))

        return Listener(taken, decided)

    def _view(self, index: int, made: _Made, reward: float | None) -> CandidateView:
        token = self._sounds.put(made.excerpt)
        return CandidateView(
            index=index,
            seed=made.draft.seed,
            midi_base64=base64.b64encode(made.filled.midi).decode(),
            notes=made.filled.notes,
            tokens=made.draft.tokens,
            log_probability=made.draft.log_probability,
            reward=reward,
            audio_url=f"/v1/audio/{token}",
        )


def _answer(
    request_id: str,
    wish: Wish,
    info: ModelInfo,
    views: Sequence[CandidateView],
    made: Sequence[_Made],
    *,
    reward_version: str | None = None,
) -> InfillResponse:
    return InfillResponse(
        request_id=request_id,
        model_version=info.version,
        checkpoint_sha256=info.sha256,
        reward_version=reward_version,
        seed=wish.seed,
        candidates=tuple(views),
        timings_ms=_timings_ms(wish, made),
    )


def _timings_ms(wish: Wish, made: Sequence[_Made]) -> dict[str, float]:
    """Return how long each stage took for the candidate that took longest; `graph` is what was spent between them."""
    total_s = time.perf_counter() - wish.began + wish.ingress_s
    slowest = max(made, key=lambda one: sum(one.draft.spent_s.values()))
    spent = {"ingress": wish.ingress_s, **slowest.draft.spent_s, "splice": slowest.splice_s}
    spent |= {"graph": max(0.0, total_s - sum(spent.values())), "total": total_s}
    return {stage: round(1000 * took_s, 2) for stage, took_s in spent.items()}
