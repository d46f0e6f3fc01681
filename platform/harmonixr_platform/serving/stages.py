"""The graph as the ingress sees it: every call to another stage, with its types. Knows no Ray.

A `Call` carries a method's name and arguments to a stage: on the cluster through a deployment handle, in a test
straight to a plain object.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from harmonixr_model.engine.engine import Job
from harmonixr_platform.schemas import (
    ComparisonRequest,
    ComparisonView,
    InfillOptions,
    InspectResponse,
    JudgmentReceipt,
    JudgmentRequest,
    ModelsResponse,
    Pair,
    RetractionReceipt,
    RetractionRequest,
    SamplingSpec,
)
from harmonixr_platform.serving.messages import Drawn, Excerpt, Filled, FillTokens, ModelInfo, RewardScores, Window
from harmonixr_platform.stores.streams import Backlog


class Call(Protocol):
    """Carries a call to a stage; raises what the stage raises."""

    async def __call__(self, stage: str, method: str, *args: Any) -> Any:
        """Return what the stage's method returns."""


class Stages:
    """Every call that the ingress makes."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def describe(self, reference: str) -> ModelInfo:
        """Return the version that an alias or a version's beginning names; it is loaded then."""
        return cast(ModelInfo, await self._call("Model", "describe", reference))

    async def window(self, midi: bytes, options: InfillOptions, done: FillTokens, info: ModelInfo) -> Window:
        """Return the prompt of the window after those that `done` fills."""
        return cast(Window, await self._call("Tokenization", "window", midi, options, done, info.max_length))

    async def generate(self, version: str, jobs: Sequence[Job], sampling: SamplingSpec) -> list[Drawn]:
        """Return one answer of the model a (prompt, seed)."""
        return cast("list[Drawn]", await self._call("Model", "generate", version, tuple(jobs), sampling))

    async def finish(
        self, midi: bytes, options: InfillOptions, tokens: Sequence[FillTokens], info: ModelInfo
    ) -> list[Filled]:
        """Return the candidates that these tokens say, as whole files."""
        return cast(
            "list[Filled]", await self._call("Decoding", "finish", midi, options, tuple(tokens), info.max_length)
        )

    async def rank(
        self, midi: bytes, options: InfillOptions, tokens: Sequence[FillTokens], info: ModelInfo
    ) -> RewardScores:
        """Return how much each candidate would be liked; raises NoRewardModel."""
        return cast(RewardScores, await self._call("Reward", "score", midi, options, tuple(tokens), info.max_length))

    async def inspect(self, midi: bytes) -> InspectResponse:
        """Return what a file holds."""
        return cast(InspectResponse, await self._call("Decoding", "inspect", midi))

    async def excerpt(self, midi: bytes, options: InfillOptions) -> Excerpt:
        """Return the stretch of a file around a region."""
        return cast(Excerpt, await self._call("Decoding", "excerpt", midi, options))

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

    async def comparison_sound(self, token: str) -> Excerpt:
        """Return what to sound for an audio token of a comparison."""
        return cast(Excerpt, await self._call("Feedback", "excerpt", token))

    async def backlog(self) -> Backlog:
        """Return which judgments wait to be carried to objects."""
        return cast(Backlog, await self._call("Feedback", "backlog"))

    async def leaderboard(self, study: str | None = None) -> dict[str, Any]:
        """Return the models ranked by what was judged, in one study or pool or in all."""
        return cast("dict[str, Any]", await self._call("Feedback", "leaderboard", study))


def local_call(stages: Mapping[str, object]) -> Call:
    """Return a Call to plain objects in this process; their blocking methods run on a thread."""

    async def call(stage: str, method: str, *args: Any) -> Any:
        found = getattr(stages[stage], method)
        if inspect.iscoroutinefunction(found):
            return await found(*args)
        return await asyncio.to_thread(found, *args)

    return call
