"""Engines by version: loaded off the event loop and cached; a promotion delays no request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict

from harmonixr_platform.registry import Registry, Version
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.stages.loading import EngineLoader, LoadedEngine
from harmonixr_platform.stores.errors import StoreUnavailable

_log = logging.getLogger("ray.serve")
_MAX_REFERENCES = 256


class Versions:
    """The current version of each reference, and its engine. For one event loop."""

    def __init__(self, args: ServingArgs, load: EngineLoader, registry: Registry) -> None:
        self._args = args
        self._load = load
        self._registry = registry
        self._resolved: dict[str, tuple[float, Version]] = {}
        self._known: dict[str, Version] = {}
        self._engines: OrderedDict[str, LoadedEngine] = OrderedDict()
        self._loading: dict[str, asyncio.Task[LoadedEngine]] = {}

    async def current(self, reference: str, *, wait: bool = False) -> Version:
        """Return the version of an alias or of the beginning of a version's name; its engine is ready.

        After an alias has moved, this is the old version until the new engine is ready, or with `wait` the new one.
        Raises RegistryError (404).
        """
        at, before = self._resolved.get(reference, (float("-inf"), None))
        if before is not None and not wait and time.monotonic() - at <= self._args.alias_refresh_s:
            return before
        version = await self._resolve(reference, before)
        if version.version not in self._engines and before is not None and not wait:
            self._begin(version)
            return before
        await self.engine(version.version)
        if len(self._resolved) > _MAX_REFERENCES:
            self._resolved.clear()
        self._resolved[reference] = time.monotonic(), version
        return version

    async def engine(self, version: str) -> LoadedEngine:
        """Return the engine of a version, loaded again if it was dropped; concurrent callers share one loading."""
        loaded = self._engines.get(version)
        if loaded is None:
            known = self._known.get(version) or await self._resolve(version, None)
            # Shielded: a caller who gives up must not cancel it for the others.
            loaded = await asyncio.shield(self._begin(known))
        self._engines.move_to_end(version)
        return loaded

    def close(self) -> None:
        """End all engines at once."""
        for loaded in self._engines.values():
            loaded.engine.close(drain=False)
        self._engines.clear()

    async def _resolve(self, reference: str, before: Version | None) -> Version:
        try:
            version = await asyncio.to_thread(self._registry.resolve, "infill", reference)
        except StoreUnavailable:
            if before is None:
                raise
            # A loaded version needs no store.
            _log.warning("the registry is away; %s stays %s", reference, before.version)
            return before
        self._known[version.version] = version
        return version

    def _begin(self, version: Version) -> asyncio.Task[LoadedEngine]:
        loading = self._loading.get(version.version)
        if loading is None:
            loading = self._loading[version.version] = asyncio.ensure_future(self._make(version))
            loading.add_done_callback(lambda done: self._end(version, done))
        return loading

    def _end(self, version: Version, loading: asyncio.Task[LoadedEngine]) -> None:
        del self._loading[version.version]
        error = None if loading.cancelled() else loading.exception()
        if error:
            _log.warning("infill %s could not be loaded: %s", version.version, error)

    async def _make(self, version: Version) -> LoadedEngine:
        started = time.perf_counter()
        path = await asyncio.to_thread(self._registry.fetch, version)
        loaded = await asyncio.to_thread(self._load, path, self._args)
        _log.info("loaded infill %s in %.1f s", version.version, time.perf_counter() - started)
        self._engines[version.version] = loaded
        while len(self._engines) > self._args.loaded_models:
            _, old = self._engines.popitem(last=False)
            # It finishes its requests; then its weights are freed.
            old.engine.close(drain=True)
        return loaded
