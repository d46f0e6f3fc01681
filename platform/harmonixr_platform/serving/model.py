"""The Model stage: owns the weights and the engine, and knows which version an alias means now.

A thin shim: what an engine does with a prompt is the library's matter. Knows nothing of MIDI or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from harmonixr_model.engine.engine import Job, Sampling
from harmonixr_model.tokens.infill import InfillPrompt
from harmonixr_platform.registry import ALIASES, Registry, RegistryError, Version, open_registry
from harmonixr_platform.schemas import ModelsResponse, ModelView, SamplingSpec
from harmonixr_platform.serving.arguments import ModelConfig, ServingArgs
from harmonixr_platform.serving.loading import EngineLoader, LoadedEngine
from harmonixr_platform.serving.messages import Drawn, ModelInfo

_log = logging.getLogger("ray.serve")
Result = TypeVar("Result")


class Model:
    """Weights by version, the latest used kept; one thread owns the engines."""

    def __init__(self, args: ServingArgs, load: EngineLoader, *, registry: Registry | None = None) -> None:
        self._args = args
        self._load = load
        self._config = ModelConfig()
        self._registry = registry or _open_registry()
        self._resolved: dict[str, tuple[float, Version]] = {}
        self._engines: OrderedDict[str, LoadedEngine] = OrderedDict()
        self._versions: dict[str, Version] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take a new `user_config`: the champion's engine is ready before requests get it."""
        config = ModelConfig.model_validate(user_config or {})
        try:
            version = await asyncio.to_thread(self._registry.resolve, "infill", config.champion)
            await self._on_worker(self._engine, version)
        except RegistryError as error:
            # An empty registry is no reason to die: models may be registered while the service is up.
            _log.warning("no model to serve yet: %s", error)
        self._config = config
        self._resolved.clear()

    async def describe(self, reference: str) -> ModelInfo:
        """Return the version that an alias or a version's beginning names; raises RegistryError (404)."""
        version = await self._resolve(reference)
        loaded = await self._on_worker(self._engine, version)
        return ModelInfo(version.version, version.sha256, loaded.max_length)

    async def generate(self, version: str, jobs: Sequence[Job], sampling: SamplingSpec) -> list[Drawn]:
        """Return one answer a (prompt, seed)."""
        found = self._versions.get(version) or await self._resolve(version)
        return await self._on_worker(self._generate, found, jobs, sampling)

    async def probe(self) -> ModelInfo:
        """Decode a token or two with the champion; return its version."""
        info = await self.describe("champion")
        await self.generate(info.version, [(_smallest_prompt(), 0)], SamplingSpec(seed=0))
        return info

    async def models(self) -> ModelsResponse:
        """Return what the registry holds."""
        return await asyncio.to_thread(self._models)

    async def _resolve(self, reference: str) -> Version:
        wanted = self._config.champion if reference == "champion" else reference
        at, version = self._resolved.get(wanted, (float("-inf"), None))
        if version is None or time.monotonic() - at > self._args.alias_refresh_s:
            version = await asyncio.to_thread(self._registry.resolve, "infill", wanted)
            if len(self._resolved) > 256:
                self._resolved.clear()
            self._resolved[wanted] = time.monotonic(), version
        self._versions[version.version] = version
        return version

    def _engine(self, version: Version) -> LoadedEngine:
        loaded = self._engines.get(version.version)
        if loaded is None:
            started = time.perf_counter()
            loaded = self._load(self._registry.fetch(version), self._args.threads)
            self._engines[version.version] = loaded
            _log.info("loaded infill %s in %.1f s", version.version, time.perf_counter() - started)
        self._engines.move_to_end(version.version)
        while len(self._engines) > self._args.loaded_models:
            self._engines.popitem(last=False)
        return loaded

    def _generate(self, version: Version, jobs: Sequence[Job], spec: SamplingSpec) -> list[Drawn]:
        sampling = Sampling(temperature=spec.temperature, top_k=spec.top_k, top_p=spec.top_p)
        answers = self._engine(version).engine.generate_each(jobs, sampling=sampling)
        return [Drawn(tuple(int(token) for token in a.tokens), float(a.log_probability)) for a in answers]

    def _models(self) -> ModelsResponse:
        return ModelsResponse(infill=_views(self._registry, "infill"), reward=_views(self._registry, "reward"))

    async def _on_worker(self, function: Callable[..., Result], *args: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *args)


def load_engine(path: Path, threads: int) -> LoadedEngine:
    """Return the shipped decoder on a checkpoint's weights."""
    import torch

    from harmonixr_model.engine.decoder import Decoder
    from harmonixr_model.infill.checkpoint import load_checkpoint

    torch.set_num_threads(threads)
    model, _ = load_checkpoint(path)
    decoder = Decoder(model)
    return LoadedEngine(decoder, decoder.max_length)


def _open_registry() -> Registry:
    """Open the registry of the environment; an empty one gets the shipped weights."""
    from harmonixr_model.infiller import shipped_weights
    from harmonixr_platform.settings import Settings

    registry = open_registry(Settings())
    shipped = shipped_weights()
    if shipped.is_file():
        registry.ensure_shipped(shipped)
    return registry


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
    from harmonixr_model.tokens.grid import GRID
    from harmonixr_model.tokens.infill import GridCell, build_prompt

    # Half a beat of one empty track: a handful of tokens.
    return build_prompt(Score(GRID, (Track(),)), [GridCell(0, 0, GRID // 2)], max_prefix_tokens=64, max_fill_tokens=12)
