"""The candidates of one request, drawn window by window, each at its own pace. Knows no HTTP and no Ray."""

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
from harmonixr_platform.schemas import InfillOptions
from harmonixr_platform.serving.transport.messages import Ask, Drawn, FillTokens, ModelInfo, Taken, Window
from harmonixr_platform.serving.transport.stages import Stages


@dataclass(frozen=True, slots=True)
class PartialCandidate:
    """A candidate while its windows are being filled, and how long each stage took for it."""

    candidate: int
    seed: int
    tokens: FillTokens = ()
    log_probability: float = 0.0
    spent_s: dict[str, float] = field(default_factory=dict)

    def then(self, window: Window, drawn: Drawn) -> PartialCandidate:
        """Return the draft with one more window."""
        spent = drawn.spent
        more = {
            "tokenization": window.took_s,
            "queue": spent.queue_s,
            "prefill": spent.prefill_s,
            "decode": spent.decode_s,
        }
        return PartialCandidate(
            self.candidate,
            self.seed,
            (*self.tokens, drawn.tokens),
            self.log_probability + drawn.log_probability,
            {stage: self.spent_s.get(stage, 0.0) + took_s for stage, took_s in more.items()},
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks and of which model; `ends` is the event loop's time by which it must be answered."""

    midi: bytes = field(repr=False)
    options: InfillOptions
    info: ModelInfo
    owner: str
    ends: float


class Listener:
    """What may be told while candidates are drawn; a caller who waits for the whole answer needs none."""

    def __init__(
        self,
        taken: Callable[[], None],
        decided: Callable[[InfillPrompt, CellFinished, PartialCandidate], Awaitable[None]],
    ) -> None:
        self.taken = taken
        self.decided = decided


class CandidateSampler:
    """Draws the candidates of a request."""

    def __init__(self, stages: Stages, asked: Asked, *, listener: Listener | None = None) -> None:
        self._stages = stages
        self._asked = asked
        self._listener = listener

    async def draw(self, seeds: Sequence[int]) -> AsyncIterator[PartialCandidate]:
        """Give each candidate as soon as all its windows are filled."""
        ready: asyncio.Queue[PartialCandidate | None] = asyncio.Queue()
        # A group cannot live in a generator that others may close: a task holds it.
        drawing = asyncio.ensure_future(self._draw_all(seeds, ready.put_nowait))
        drawing.add_done_callback(lambda task: ready.put_nowait(None))
        # Looked at here, too: whoever closes early never asks for it.
        drawing.add_done_callback(_look)
        try:
            while (draft := await ready.get()) is not None:
                yield draft
            await drawing
        finally:
            drawing.cancel()

    async def _draw_all(self, seeds: Sequence[int], ready: Callable[[PartialCandidate], None]) -> None:
        drafts = [PartialCandidate(i, seed) for i, seed in enumerate(seeds)]
        controls = self._asked.options.controls
        check_supported(attribute_controls_of(controls), self._asked.info.supported, only=controls.only)
        # The first window is the same for all candidates: they share one prompt, which is read once.
        first = await self._window(())
        try:
            async with asyncio.TaskGroup() as group:
                async for draft in self._fill(first, drafts):
                    if first.is_last:
                        ready(draft)
                    else:
                        group.create_task(self._go_on(draft, ready))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _go_on(self, draft: PartialCandidate, ready: Callable[[PartialCandidate], None]) -> None:
        while True:
            window = await self._window(draft.tokens)
            (draft,) = [filled async for filled in self._fill(window, [draft])]
            if window.is_last:
                ready(draft)
                return

    async def _fill(self, window: Window, drafts: Sequence[PartialCandidate]) -> AsyncIterator[PartialCandidate]:
        asked = self._asked
        seeds = tuple(window_seed(draft.seed, len(draft.tokens)) for draft in drafts)
        left_s = max(0.0, asked.ends - asyncio.get_running_loop().time())
        ask = Ask(window.prompt, seeds, asked.options.sampling, asked.owner, left_s)
        if self._listener is None:
            for draft, drawn in zip(drafts, await self._stages.generate(asked.info.version, ask), strict=True):
                yield draft.then(window, drawn)
            return
        seen: set[object] = set()
        async with aclosing(self._stages.stream(asked.info.version, ask)) as said:  # type: ignore[type-var]
            async for word in said:
                if isinstance(word, Taken):
                    self._listener.taken()
                    continue
                # After a replica's death another says everything again.
                name = (word.candidate, word.cell if isinstance(word, CellFinished) else None)
                if name in seen:
                    continue
                seen.add(name)
                if isinstance(word, CellFinished):
                    await self._listener.decided(window.prompt, word, drafts[word.candidate])
                else:
                    yield drafts[word.candidate].then(window, word)

    async def _window(self, done: FillTokens) -> Window:
        return await self._stages.window(self._asked.midi, self._asked.options, done, self._asked.info)


def _look(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
