"""Every call from the ingress to another stage, with its types.

A `Call` carries a method's name and arguments to a stage: on the cluster through a deployment handle, in a test
straight to a plain object.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol, cast

from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.schemas import (
    ComparisonRequest,
    ComparisonView,
    ErasureReceipt,
    ErasureRequest,
    InspectResponse,
    JudgmentReceipt,
    JudgmentRequest,
    ModelsResponse,
    Pair,
    RetractionReceipt,
    RetractionRequest,
)
from harmonixr_platform.serving.transport.messages import (
    Excerpt,
    FillRequest,
    FillTokens,
    FinishedFills,
    ModelEvent,
    ModelInfo,
    RewardScores,
    Route,
    Window,
    WindowFill,
)
from harmonixr_platform.stores.streams import Backlog


class Call(Protocol):
    """Carries a call to a stage; raises the stage's errors."""

    async def __call__(self, stage: str, method: str, *args: Any) -> Any:
        """Return the method's result."""

    def stream(self, stage: str, method: str, *args: Any) -> AsyncIterator[Any]:
        """Yield the method's items as they come; closing the iterator cancels the method."""


class Stages:
    """Every call that the ingress makes."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def route(self) -> Route:
        """Return the versions that serve requests for the champion."""
        return cast(Route, await self._call("Model", "route"))

    async def describe(self, reference: str) -> ModelInfo:
        """Load the version that an alias or the beginning of a version's name refers to; return it."""
        return cast(ModelInfo, await self._call("Model", "describe", reference))

    async def window(self, request: FillRequest, done: FillTokens, info: ModelInfo) -> Window:
        """Return the prompt of the window after those that `done` fills."""
        args = request.midi, request.options, done, info.max_length
        return cast(Window, await self._call("Tokenization", "window", *args))

    async def generate(
        self, request: FillRequest, info: ModelInfo, prompt: InfillPrompt, seeds: tuple[int, ...]
    ) -> list[WindowFill]:
        """Return one fill for each seed."""
        args = info.version, request.engine_request(prompt, seeds)
        return cast("list[WindowFill]", await self._call("Model", "generate", *args))

    def stream(
        self, request: FillRequest, info: ModelInfo, prompt: InfillPrompt, seeds: tuple[int, ...]
    ) -> AsyncIterator[ModelEvent]:
        """Yield the model's events as they happen; when its replica dies, another repeats all of them."""
        return self._call.stream("Model", "stream", info.version, request.engine_request(prompt, seeds))

    async def finish(self, request: FillRequest, tokens: Sequence[FillTokens], info: ModelInfo) -> FinishedFills:
        """Return the candidates with these tokens as whole files."""
        args = request.midi, request.options, tuple(tokens), info.max_length
        return cast(FinishedFills, await self._call("Decoding", "finish", *args))

    async def rank(self, request: FillRequest, tokens: Sequence[FillTokens], info: ModelInfo) -> RewardScores:
        """Return a reward for each candidate; raises NoRewardModel."""
        args = request.midi, request.options, tuple(tokens), info.max_length
        return cast(RewardScores, await self._call("Reward", "score", *args))

    async def inspect(self, midi: bytes) -> InspectResponse:
        """Return the bars, tracks and notes of a file."""
        return cast(InspectResponse, await self._call("Decoding", "inspect", midi))

    async def sound(self, excerpt: Excerpt) -> bytes:
        """Return the excerpt as a WAV file."""
        args = excerpt.midi, excerpt.start_s, excerpt.end_s, excerpt.beside
        return cast(bytes, await self._call("Decoding", "sound", *args))

    async def models(self) -> ModelsResponse:
        """Return the versions in the registry."""
        return cast(ModelsResponse, await self._call("Model", "models"))

    async def probe(self) -> ModelInfo:
        """Decode a token with the champion; return its version."""
        return cast(ModelInfo, await self._call("Model", "probe"))

    async def admit(self, rater_key: str) -> None:
        """Count a request for two fills of the rater's own gap; raises TooMany."""
        await self._call("Feedback", "admit", rater_key)

    async def compare(self, request: ComparisonRequest, own: Pair | None) -> ComparisonView:
        """Present a pair of the pool, or `own`."""
        return cast(ComparisonView, await self._call("Feedback", "compare", request, own))

    async def judge(self, request: JudgmentRequest) -> JudgmentReceipt:
        """Record a judgment; it is on disk when this returns."""
        return cast(JudgmentReceipt, await self._call("Feedback", "judge", request))

    async def retract(self, request: RetractionRequest) -> RetractionReceipt:
        """Retract a judgment; the retraction is on disk when this returns."""
        return cast(RetractionReceipt, await self._call("Feedback", "retract", request))

    async def erase(self, request: ErasureRequest) -> ErasureReceipt:
        """Erase a rater; the request is on disk when this returns."""
        return cast(ErasureReceipt, await self._call("Feedback", "erase", request))

    async def comparison_sound(self, token: str) -> Excerpt:
        """Return the excerpt that an audio token of a comparison names."""
        return cast(Excerpt, await self._call("Feedback", "excerpt", token))

    async def backlog(self) -> Backlog:
        """Return how many judgments wait to be moved to the object store."""
        return cast(Backlog, await self._call("Feedback", "backlog"))

    async def leaderboard(self, study: str | None = None) -> dict[str, Any]:
        """Return the models ranked by their judgments, in one study or pool or in all."""
        return cast("dict[str, Any]", await self._call("Feedback", "leaderboard", study))


class LocalCall:
    """Calls plain objects in this process; their blocking methods run on a thread."""

    def __init__(self, stages: Mapping[str, object]) -> None:
        self._stages = stages

    async def __call__(self, stage: str, method: str, *args: Any) -> Any:
        """Return the method's result."""
        found = getattr(self._stages[stage], method)
        if inspect.iscoroutinefunction(found):
            return await found(*args)
        return await asyncio.to_thread(found, *args)

    def stream(self, stage: str, method: str, *args: Any) -> AsyncIterator[Any]:
        """Yield the method's items."""
        return cast("AsyncIterator[Any]", getattr(self._stages[stage], method)(*args))
