"""The graph as the ingress sees it: every call to another stage, with its types. Knows no Ray.

A `Call` carries a method's name and arguments to a stage: on the cluster through a deployment handle, in a test
straight to a plain object.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol, cast

from harmonixr_platform.schemas import (
    ComparisonRequest,
    ComparisonView,
    ErasureReceipt,
    ErasureRequest,
    InfillOptions,
    InspectResponse,
    JudgmentReceipt,
    JudgmentRequest,
    ModelsResponse,
    Pair,
    RetractionReceipt,
    RetractionRequest,
)
from harmonixr_platform.serving.transport.messages import (
    Ask,
    Drawn,
    Excerpt,
    FillTokens,
    Finished,
    ModelInfo,
    RewardScores,
    Route,
    Said,
    Window,
)
from harmonixr_platform.stores.streams import Backlog


class Call(Protocol):
    """Carries a call to a stage; raises what the stage raises."""

    async def __call__(self, stage: str, method: str, *args: Any) -> Any:
        """Return what the stage's method returns."""

    def stream(self, stage: str, method: str, *args: Any) -> AsyncIterator[Any]:
        """Give what the stage's method gives, as it does; closing this ends the work there."""


class Stages:
    """Every call that the ingress makes."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def route(self) -> Route:
        """Return who answers requests for the champion."""
        return cast(Route, await self._call("Model", "route"))

    async def describe(self, reference: str) -> ModelInfo:
        """Return the version that an alias or a version's beginning names; it is loaded then."""
        return cast(ModelInfo, await self._call("Model", "describe", reference))

    async def window(self, midi: bytes, options: InfillOptions, done: FillTokens, info: ModelInfo) -> Window:
        """Return the prompt of the window after those that `done` fills."""
        return cast(Window, await self._call("Tokenization", "window", midi, options, done, info.max_length))

    async def generate(self, version: str, ask: Ask) -> list[Drawn]:
        """Return one answer of the model a seed."""
        return cast("list[Drawn]", await self._call("Model", "generate", version, ask))

    def stream(self, version: str, ask: Ask) -> AsyncIterator[Said]:
        """Give what the model says while it answers; after a replica's death it says all of it again."""
        return self._call.stream("Model", "stream", version, ask)

    async def finish(
        self, midi: bytes, options: InfillOptions, tokens: Sequence[FillTokens], info: ModelInfo
    ) -> Finished:
        """Return the candidates that these tokens say, as whole files."""
        return cast(Finished, await self._call("Decoding", "finish", midi, options, tuple(tokens), info.max_length))

    async def rank(
        self, midi: bytes, options: InfillOptions, tokens: Sequence[FillTokens], info: ModelInfo
    ) -> RewardScores:
        """Return how much each candidate would be liked; raises NoRewardModel."""
        return cast(RewardScores, await self._call("Reward", "score", midi, options, tuple(tokens), info.max_length))

    async def inspect(self, midi: bytes) -> InspectResponse:
        """Return what a file holds."""
        return cast(InspectResponse, await self._call("Decoding", "inspect", midi))

    async def sound(self, excerpt: Excerpt) -> bytes:
        """Return the excerpt as a WAV file."""
        stretch = excerpt.midi, excerpt.start_s, excerpt.end_s, excerpt.beside
        return cast(bytes, await self._call("Decoding", "sound", *stretch))

    async def models(self) -> ModelsResponse:
        """Return what the registry holds."""
        return cast(ModelsResponse, await self._call("Model", "models"))

    async def probe(self) -> ModelInfo:
        """Decode a token with the champion; return its version."""
        return cast(ModelInfo, await self._call("Model", "probe"))

    async def admit(self, rater_key: str) -> None:
        """Count a request for two fills of the rater's own gap; raises TooMany."""
        await self._call("Feedback", "admit", rater_key)

    async def compare(self, request: ComparisonRequest, own: Pair | None) -> ComparisonView:
        """Show a pair of the pool, or `own`."""
        return cast(ComparisonView, await self._call("Feedback", "compare", request, own))

    async def judge(self, request: JudgmentRequest) -> JudgmentReceipt:
        """Record an answer; it is on disk when this returns."""
        return cast(JudgmentReceipt, await self._call("Feedback", "judge", request))

    async def retract(self, request: RetractionRequest) -> RetractionReceipt:
        """Take a judgment back; it is on disk when this returns."""
        return cast(RetractionReceipt, await self._call("Feedback", "retract", request))

    async def erase(self, request: ErasureRequest) -> ErasureReceipt:
        """Erase a rater; the request is on disk when this returns."""
        return cast(ErasureReceipt, await self._call("Feedback", "erase", request))

    async def comparison_sound(self, token: str) -> Excerpt:
        """Return what to sound for an audio token of a comparison."""
        return cast(Excerpt, await self._call("Feedback", "excerpt", token))

    async def backlog(self) -> Backlog:
        """Return which judgments wait to be carried to objects."""
        return cast(Backlog, await self._call("Feedback", "backlog"))

    async def leaderboard(self, study: str | None = None) -> dict[str, Any]:
        """Return the models ranked by what was judged, in one study or pool or in all."""
        return cast("dict[str, Any]", await self._call("Feedback", "leaderboard", study))


class LocalCall:
    """Calls to plain objects in this process; their blocking methods run on a thread."""

    def __init__(self, stages: Mapping[str, object]) -> None:
        self._stages = stages

    async def __call__(self, stage: str, method: str, *args: Any) -> Any:
        """Return what the stage's method returns."""
        found = getattr(self._stages[stage], method)
        if inspect.iscoroutinefunction(found):
            return await found(*args)
        return await asyncio.to_thread(found, *args)

    def stream(self, stage: str, method: str, *args: Any) -> AsyncIterator[Any]:
        """Give what the stage's method gives."""
        return cast("AsyncIterator[Any]", getattr(self._stages[stage], method)(*args))
