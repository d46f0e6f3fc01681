"""Which version answers a request, asked of the Model stage now and then and remembered in between. Knows no HTTP."""

from __future__ import annotations

import asyncio
import time

from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.transport.messages import ModelInfo, Route
from harmonixr_platform.serving.transport.stages import Stages

_MAX_REFERENCES = 256
_CHAMPION = "champion"
# After so many missed refreshes, as when nobody asked for a while, a route is not used any more before it is asked for.
_TOO_OLD = 12


class Routing:
    """Routes by reference. A route that is out of date is used once more while it is asked for again."""

    def __init__(self, stages: Stages, args: ServingArgs) -> None:
        self._stages = stages
        self._refresh_s = args.alias_refresh_s
        self._known: dict[str, tuple[float, Route]] = {}
        self._asking: dict[str, asyncio.Task[Route]] = {}

    async def choose(self, reference: str, caller: str) -> ModelInfo:
        """Return the version that answers this caller; raises RegistryError (404)."""
        return (await self._route(reference)).choose(caller)

    async def _route(self, reference: str) -> Route:
        at, route = self._known.get(reference, (float("-inf"), None))
        age_s = time.monotonic() - at
        if route is None or age_s >= _TOO_OLD * self._refresh_s:
            return await asyncio.shield(self._ask(reference))
        if age_s > self._refresh_s:
            self._ask(reference)
        return route

    def _ask(self, reference: str) -> asyncio.Task[Route]:
        asking = self._asking.get(reference)
        if asking is None:
            asking = self._asking[reference] = asyncio.ensure_future(self._learn(reference))
            asking.add_done_callback(lambda done: self._settle(reference, done))
        return asking

    async def _learn(self, reference: str) -> Route:
        if reference == _CHAMPION:
            return await self._stages.route()
        return Route(await self._stages.describe(reference))

    def _settle(self, reference: str, asking: asyncio.Task[Route]) -> None:
        del self._asking[reference]
        if asking.cancelled() or asking.exception() is not None:
            # What was known is no longer sure: the next request asks itself, and hears why.
            self._known.pop(reference, None)
            return
        if len(self._known) > _MAX_REFERENCES:
            self._known.clear()
        self._known[reference] = time.monotonic(), asking.result()
