"""The Model stage: a thin shim around one batching engine a version. Knows nothing of MIDI or HTTP.

Many requests are inside at once and share the engine's batch; one that is cancelled frees its rows at the next step.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from harmonixr_model.engine.request import CandidateFinished, CellFinished, Failed, RequestHandle
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.registry import ALIASES, Registry, RegistryError, open_registry
from harmonixr_platform.requests import sampling_of
from harmonixr_platform.schemas import ModelsResponse, ModelView, SamplingSpec
from harmonixr_platform.serving.arguments import ModelConfig, ServingArgs
from harmonixr_platform.serving.stages.loading import EngineLoader, LoadedEngine
from harmonixr_platform.serving.stages.versions import Versions
from harmonixr_platform.serving.transport.messages import Ask, Drawn, ModelInfo, Route, Said, Taken

_log = logging.getLogger("ray.serve")
_PROBE_S = 60.0


class Model:
    """Versions side by side, each with its engine."""

    def __init__(self, args: ServingArgs, load: EngineLoader, *, registry: Registry | None = None) -> None:
        self._config = ModelConfig()
        self._registry = registry or _open_registry()
        self._versions = Versions(args, load, self._registry)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take a new `user_config`: the engines that it names are ready before requests get them."""
        config = ModelConfig.model_validate(user_config or {})
        for reference in filter(None, (config.champion, config.canary)):
            try:
                await self._versions.current(reference, wait=True)
            except RegistryError as error:
                # An empty registry is no reason to die: models may be registered while the service is up.
                _log.warning("no model to serve yet: %s", error)
        self._config = config

    async def route(self) -> Route:
        """Return who answers requests for the champion; raises RegistryError (404)."""
        champion, config = await self.describe("champion"), self._config
        if config.canary is None or not config.canary_share:
            return Route(champion)
        try:
            return Route(champion, await self.describe(config.canary), config.canary_share)
        except RegistryError as error:
            _log.warning("there is no canary: %s", error)
            return Route(champion)

    async def describe(self, reference: str) -> ModelInfo:
        """Return the version that an alias or a version's beginning names; raises RegistryError (404)."""
        version = await self._versions.current(self._config.champion if reference == "champion" else reference)
        loaded = await self._versions.engine(version.version)
        return ModelInfo(version.version, version.sha256, loaded.max_length, loaded.supported, loaded.precision)

    async def generate(self, version: str, ask: Ask) -> list[Drawn]:
        """Return one answer a seed; raises EngineBusy, DeadlinePassed."""
        loaded, ticket = await self._submit(version, ask)
        try:
            generated = await ticket.wait()
            spent = loaded.stopwatch.read(ask.prompt)
        finally:
            loaded.stopwatch.stop(ask.prompt)
        return [Drawn(_plain(g.tokens), float(g.log_probability), i, spent) for i, g in enumerate(generated)]

    async def stream(self, version: str, ask: Ask) -> AsyncIterator[Said]:
        """Say `Taken` at once, every cell as it is decided, and every answer; raises EngineBusy, DeadlinePassed."""
        loaded, ticket = await self._submit(version, ask)
        try:
            yield Taken()
            async with aclosing(ticket.events()) as events:  # type: ignore[type-var]  # an async generator
                async for event in events:
                    if isinstance(event, CellFinished):
                        yield CellFinished(event.candidate, event.cell, _plain(event.tokens))
                    elif isinstance(event, CandidateFinished):
                        one = event.generated
                        spent = loaded.stopwatch.read(ask.prompt)
                        yield Drawn(_plain(one.tokens), float(one.log_probability), event.candidate, spent)
                    elif isinstance(event, Failed):
                        raise event.error
        finally:
            # Whoever listens no longer has given it up.
            ticket.cancel()
            loaded.stopwatch.stop(ask.prompt)

    async def probe(self) -> ModelInfo:
        """Decode a token or two with the champion; return its version."""
        info = await self.describe("champion")
        await self.generate(info.version, Ask(_smallest_prompt(), (0,), SamplingSpec(seed=0), "", _PROBE_S))
        return info

    async def models(self) -> ModelsResponse:
        """Return what the registry holds."""
        return await asyncio.to_thread(self._models)

    async def _submit(self, version: str, ask: Ask) -> tuple[LoadedEngine, RequestHandle]:
        loaded, sampling = await self._versions.engine(version), sampling_of(ask.sampling)
        loaded.stopwatch.start(ask.prompt)
        deadline = time.monotonic() + ask.timeout_s
        try:
            return loaded, loaded.engine.submit(ask.prompt, ask.seeds, sampling, owner=ask.owner, deadline=deadline)
        except BaseException:
            loaded.stopwatch.stop(ask.prompt)
            raise

    def _models(self) -> ModelsResponse:
        return ModelsResponse(infill=_views(self._registry, "infill"), reward=_views(self._registry, "reward"))

    def stop(self) -> None:
        """End the engines."""
        self._versions.close()

    def __del__(self) -> None:
        # Serve calls this when it lets a replica go, after all its requests are answered.
        self.stop()


def _open_registry() -> Registry:
    """Open the registry of the environment; an empty one gets the shipped weights."""
    from harmonixr_model.fill.infiller import shipped_weights
    from harmonixr_platform.settings import Settings

    registry = open_registry(Settings())
    shipped = shipped_weights()
    if shipped.is_file():
        registry.ensure_shipped(shipped)
    return registry


def _plain(tokens: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(token) for token in tokens)


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
