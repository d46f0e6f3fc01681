"""The version that serves a request, cached between questions to the Model stage."""

from __future__ import annotations

import asyncio
import time

from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.transport.messages import ModelInfo, Route
from harmonixr_platform.serving.transport.stages import Stages

_MAX_REFERENCES = 256
_CHAMPION = "champion"
# A route this many refresh intervals old, as after a time without requests, is fetched before it is used.
_MAX_AGE_REFRESHES = 12


class Routing:
    """Routes by reference. An outdated route serves one more request while a new one is fetched."""

    def __init__(self, stages: Stages, args: ServingArgs) -> None:
        self._stages = stages
        self._refresh_s = args.alias_refresh_s
        self._cached: dict[str, tuple[float, Route]] = {}
        self._fetching: dict[str, asyncio.Task[Route]] = {}

    async def choose(self, reference: str, caller: str) -> ModelInfo:
        """Return the version that serves this caller; raises RegistryError (404)."""
        return (await self._route(reference)).choose(caller)

    async def _route(self, reference: str) -> Route:
        at, route = self._cached.get(reference, (float("-inf"), None))
        age_s = time.monotonic() - at
        if route is None or age_s >= _MAX_AGE_REFRESHES * self._refresh_s:
            return await asyncio.shield(self._refresh(reference))
        if age_s > self._refresh_s:
            self._refresh(reference)
        return route

    def _refresh(self, reference: str) -> asyncio.Task[Route]:
        fetching = self._fetching.get(reference)
        if fetching is None:
            fetching = self._fetching[reference] = asyncio.ensure_future(self._fetch(reference))
            fetching.add_done_callback(lambda done: self._store(reference, done))
        return fetching

    async def _fetch(self, reference: str) -> Route:
        if reference == _CHAMPION:
            return await self._stages.route()
        return Route(await self._stages.describe(reference))

    def _store(self, reference: str, fetched: asyncio.Task[Route]) -> None:
        del self._fetching[reference]
        if fetched.cancelled() or fetched.exception() is not None:
            # The old route may be wrong: the next request fetches one itself and gets the error.
            self._cached.pop(reference, None)
            return
        if len(self._cached) > _MAX_REFERENCES:
            self._cached.clear()
        self._cached[reference] = time.monotonic(), fetched.result()
