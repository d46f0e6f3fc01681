"""The Model stage: one batching engine for each loaded version.

Concurrent requests share the engine's batch; a cancelled request frees its rows at the next step.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from harmonixr_model.engine.engine import GeneratedFill
from harmonixr_model.engine.request import CandidateFinished, CellFinished, Failed, RequestHandle
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.registry import ALIASES, Registry, RegistryError, open_registry
from harmonixr_platform.requests import sampling_of
from harmonixr_platform.schemas import ModelsResponse, ModelView, SamplingSpec
from harmonixr_platform.serving.arguments import ModelConfig, ServingArgs
from harmonixr_platform.serving.stages.loading import EngineLoader, LoadedEngine
from harmonixr_platform.serving.stages.versions import Versions
from harmonixr_platform.serving.transport.messages import (
    EngineRequest,
    ModelEvent,
    ModelInfo,
    ModelTimings,
    PromptAccepted,
    Route,
    WindowFill,
)

_log = logging.getLogger("ray.serve")
_PROBE_S = 60.0


class Model:
    """Several versions at the same time, each with its engine."""

    def __init__(self, args: ServingArgs, load: EngineLoader, *, registry: Registry | None = None) -> None:
        self._config = ModelConfig()
        self._registry = registry or _open_registry()
        self._versions = Versions(args, load, self._registry)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply a new `user_config` once the engines of its versions are ready."""
        config = ModelConfig.model_validate(user_config or {})
        for reference in filter(None, (config.champion, config.canary)):
            try:
                await self._versions.current(reference, wait=True)
            except RegistryError as error:
                # Models may be registered while the service is up.
                _log.warning("no model to serve yet: %s", error)
        self._config = config

    async def route(self) -> Route:
        """Return the versions that serve requests for the champion; raises RegistryError (404)."""
        champion, config = await self.describe("champion"), self._config
        if config.canary is None or not config.canary_share:
            return Route(champion)
        try:
            return Route(champion, await self.describe(config.canary), config.canary_share)
        except RegistryError as error:
            _log.warning("there is no canary: %s", error)
            return Route(champion)

    async def describe(self, reference: str) -> ModelInfo:
        """Return the version of an alias or of the beginning of a version's name; raises RegistryError (404)."""
        version = await self._versions.current(self._config.champion if reference == "champion" else reference)
        loaded = await self._versions.engine(version.version)
        return ModelInfo(version.version, version.sha256, loaded.max_length, loaded.supported, loaded.precision)

    async def generate(self, version: str, request: EngineRequest) -> list[WindowFill]:
        """Return one fill for each seed; raises EngineBusy, DeadlinePassed."""
        loaded, handle = await self._submit(version, request)
        try:
            generated = await handle.wait()
            timings = loaded.timer.read(request.prompt)
        finally:
            loaded.timer.stop(request.prompt)
        return [_window_fill(one, i, timings) for i, one in enumerate(generated)]

    async def stream(self, version: str, request: EngineRequest) -> AsyncIterator[ModelEvent]:
        """Yield PromptAccepted, every decided cell, and every fill; raises EngineBusy, DeadlinePassed."""
        loaded, handle = await self._submit(version, request)
        try:
            yield PromptAccepted()
            async with aclosing(handle.events()) as events:  # type: ignore[type-var]  # an async generator
                async for event in events:
                    if isinstance(event, CellFinished):
                        yield CellFinished(event.candidate, event.cell, _plain(event.tokens))
                    elif isinstance(event, CandidateFinished):
                        timings = loaded.timer.read(request.prompt)
                        yield _window_fill(event.generated, event.candidate, timings)
                    elif isinstance(event, Failed):
                        raise event.error
        finally:
            # A closed stream cancels the request.
            handle.cancel()
            loaded.timer.stop(request.prompt)

    async def probe(self) -> ModelInfo:
        """Decode a token or two with the champion; return its version."""
        info = await self.describe("champion")
        await self.generate(info.version, EngineRequest(_smallest_prompt(), (0,), SamplingSpec(seed=0), "", _PROBE_S))
        return info

    async def models(self) -> ModelsResponse:
        """Return the versions in the registry."""
        return await asyncio.to_thread(self._models)

    async def _submit(self, version: str, request: EngineRequest) -> tuple[LoadedEngine, RequestHandle]:
        loaded, prompt = await self._versions.engine(version), request.prompt
        sampling, deadline = sampling_of(request.sampling), time.monotonic() + request.timeout_s
        loaded.timer.start(prompt)
        try:
            handle = loaded.engine.submit(prompt, request.seeds, sampling, owner=request.owner, deadline=deadline)
        except BaseException:
            loaded.timer.stop(prompt)
            raise
        return loaded, handle

    def _models(self) -> ModelsResponse:
        return ModelsResponse(infill=_views(self._registry, "infill"), reward=_views(self._registry, "reward"))

    def stop(self) -> None:
        """End the engines."""
        self._versions.close()

    def __del__(self) -> None:
        # Serve calls this when it stops a replica, after the last of its requests.
        self.stop()


def _open_registry() -> Registry:
    """Open the registry of the environment; register the shipped weights in an empty one."""
    from harmonixr_model.fill.infiller import shipped_weights
    from harmonixr_platform.settings import Settings

    registry = open_registry(Settings())
    shipped = shipped_weights()
    if shipped.is_file():
        registry.ensure_shipped(shipped)
    return registry


def _plain(tokens: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(token) for token in tokens)


def _window_fill(generated: GeneratedFill, candidate: int, timings: ModelTimings) -> WindowFill:
    return WindowFill(_plain(generated.tokens), float(generated.log_probability), candidate, timings)


def _views(registry: Registry, name: str) -> tuple[ModelView, ...]:
    aliases = {alias: held.version for alias in ALIASES if (held := registry.alias(name, alias))}
    return tuple(
        ModelView(
            version=version.version,
            aliases=tuple(alias for alias, target in aliases.items() if target == version.version),
            checkpoint_sha256=version.sha256,
            size_bytes=version.size_bytes,
            created=version.created,
            metrics=version.lineage.metrics,
            note=version.lineage.note,
        )
        for version in registry.versions(name)
    )


def _smallest_prompt() -> InfillPrompt:
    from harmonixr_model.music.score import Score, Track
    from harmonixr_model.notes.encoded_score import GridCell
    from harmonixr_model.notes.grid import GRID
    from harmonixr_model.prompt.builder import build_prompt

    # Half a beat of one empty track: a handful of tokens.
    return build_prompt(Score(GRID, (Track(),)), [GridCell(0, 0, GRID // 2)], max_prefix_tokens=64, max_fill_tokens=12)
