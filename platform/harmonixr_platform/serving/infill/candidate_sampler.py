"""Sample the candidates of one request window by window, each at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from harmonixr_model.engine.request import CellFinished
from harmonixr_model.fill.infiller import window_seed
from harmonixr_model.prompt.controls import check_supported
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.requests import attribute_controls_of
from harmonixr_platform.serving.transport.messages import (
    FillRequest,
    FillTokens,
    ModelInfo,
    PromptAccepted,
    Window,
    WindowFill,
)
from harmonixr_platform.serving.transport.stages import Stages


@dataclass(frozen=True, slots=True)
class PartialCandidate:
    """The windows of a candidate that are filled so far, and how long each stage took for them."""

    candidate: int
    seed: int
    tokens: FillTokens = ()
    log_probability: float = 0.0
    stage_s: dict[str, float] = field(default_factory=dict)

    def with_window(self, window: Window, fill: WindowFill) -> PartialCandidate:
        """Return the candidate with one more window."""
        took = fill.timings
        more = {
            "tokenization": window.took_s,
            "queue": took.queue_s,
            "prefill": took.prefill_s,
            "decode": took.decode_s,
        }
        return PartialCandidate(
            self.candidate,
            self.seed,
            (*self.tokens, fill.tokens),
            self.log_probability + fill.log_probability,
            {stage: self.stage_s.get(stage, 0.0) + took_s for stage, took_s in more.items()},
        )


@dataclass(frozen=True, slots=True)
class Listener:
    """Callbacks during sampling: for an accepted prompt and for a decided cell."""

    accepted: Callable[[], None]
    decided: Callable[[InfillPrompt, CellFinished, PartialCandidate], Awaitable[None]]


class CandidateSampler:
    """Samples candidates from one model; without a listener the model returns whole windows only."""

    def __init__(
        self, stages: Stages, request: FillRequest, info: ModelInfo, *, listener: Listener | None = None
    ) -> None:
        self._stages = stages
        self._request = request
        self._info = info
        self._listener = listener

    async def sample(self, seeds: Sequence[int]) -> AsyncIterator[PartialCandidate]:
        """Yield each candidate as soon as all its windows are filled."""
        ready: asyncio.Queue[PartialCandidate | None] = asyncio.Queue()
        # A caller may close this generator at any time, and a task group cannot live in it: a task holds the group.
        sampling = asyncio.ensure_future(self._sample_all(seeds, ready.put_nowait))
        sampling.add_done_callback(lambda task: ready.put_nowait(None))
        # A caller who closes early never retrieves the error.
        sampling.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            while (candidate := await ready.get()) is not None:
                yield candidate
            await sampling
        finally:
            sampling.cancel()

    async def _sample_all(self, seeds: Sequence[int], ready: Callable[[PartialCandidate], None]) -> None:
        candidates = [PartialCandidate(i, seed) for i, seed in enumerate(seeds)]
        controls = self._request.options.controls
        check_supported(attribute_controls_of(controls), self._info.supported, only=controls.only)
        # The first window is the same for all candidates: they share one prompt and one prefill.
        first = await self._window(())
        try:
            async with asyncio.TaskGroup() as group:
                async for candidate in self._fill(first, candidates):
                    if first.is_last:
                        ready(candidate)
                    else:
                        group.create_task(self._complete(candidate, ready))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _complete(self, candidate: PartialCandidate, ready: Callable[[PartialCandidate], None]) -> None:
        """Fill the remaining windows of a candidate."""
        while True:
            window = await self._window(candidate.tokens)
            (candidate,) = [filled async for filled in self._fill(window, [candidate])]
            if window.is_last:
                ready(candidate)
                return

    async def _fill(self, window: Window, candidates: Sequence[PartialCandidate]) -> AsyncIterator[PartialCandidate]:
        """Fill one window of several candidates, each with a seed of its own."""
        seeds = tuple(window_seed(candidate.seed, len(candidate.tokens)) for candidate in candidates)
        call = self._request, self._info, window.prompt, seeds
        if self._listener is None:
            for candidate, fill in zip(candidates, await self._stages.generate(*call), strict=True):
                yield candidate.with_window(window, fill)
            return
        seen: set[object] = set()
        async with aclosing(self._stages.stream(*call)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, PromptAccepted):
                    self._listener.accepted()
                    continue
                # When a replica dies, another repeats all events.
                name = (event.candidate, event.cell if isinstance(event, CellFinished) else None)
                if name in seen:
                    continue
                seen.add(name)
                if isinstance(event, CellFinished):
                    await self._listener.decided(window.prompt, event, candidates[event.candidate])
                else:
                    yield candidates[event.candidate].with_window(window, event)

    async def _window(self, done: FillTokens) -> Window:
        return await self._stages.window(self._request, done, self._info)
