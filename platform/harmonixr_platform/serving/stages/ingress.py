"""The Ingress deployment: the HTTP application on top of handles to the other deployments.

This module makes all calls of handles: it restores the type of the other stages' errors, repeats a call whose replica
died, and turns a full queue into a 429 response.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.errors import NoRewardModel, Overloaded, Unavailable
from harmonixr_platform.serving.http.drain_latch import DrainLatch
from harmonixr_platform.serving.transport.stages import Stages

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve.handle import DeploymentHandle

_log = logging.getLogger("ray.serve")
# A call whose replica died is made once more: every method of every stage may run twice.
_ATTEMPTS = 2
# Parsing a song makes some five thousand tuples, none of them in a cycle.
_GC_NEW_OBJECTS, _GC_YOUNG_ROUNDS = 20_000, 20


class Ingress:
    """The front of the graph. A plain class: the builder makes it a deployment."""

    def __init__(self, args: ServingArgs, stages: Mapping[str, DeploymentHandle[Any]]) -> None:
        self._args = args
        self._stages = stages
        self._latch = DrainLatch()

    async def drain(self) -> None:
        """Refuse new requests; return when those in progress are finished."""
        await self._latch.drain()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the HTTP application; Serve calls this once, on the replica's event loop."""
        from harmonixr_platform.serving.http.api import make_api
        from harmonixr_platform.serving.infill.redis_response_cache import RedisResponseCache
        from harmonixr_platform.serving.infill.service import Service
        from harmonixr_platform.serving.stages.decoding import Decoding
        from harmonixr_platform.serving.stages.tokenization import Tokenization
        from harmonixr_platform.serving.transport.in_process import InProcessCall
        from harmonixr_platform.settings import Settings

        settings = Settings()
        redis_cache = RedisResponseCache.open(settings, self._args)
        local = {"Tokenization": Tokenization(self._args), "Decoding": Decoding(self._args)}
        call = InProcessCall(RemoteCall(self._stages), local, max_midi_bytes=self._args.in_process_midi_bytes)
        service = Service(Stages(call), self._args, redis_cache=redis_cache)
        api = make_api(service, self._args, api_keys=settings.api_key_list(), latch=self._latch)
        _collect_garbage_less_often()
        return api


class RemoteCall:
    """Calls through deployment handles."""

    def __init__(self, handles: Mapping[str, DeploymentHandle[Any]]) -> None:
        self._handles = handles

    async def __call__(self, stage: str, method: str, *args: Any) -> Any:
        """Return the method's result."""
        handle = self._handle(stage)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await _call(handle, method, args)
            except RayActorError:
                _log.warning("a replica of %s died during %s, attempt %d", stage, method, attempt)
        raise _restarting(stage)

    async def stream(self, stage: str, method: str, *args: Any) -> AsyncIterator[Any]:
        """Yield the method's items; when its replica dies, another yields all of them from the first one."""
        handle = self._handle(stage)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with aclosing(_stream(handle, method, args)) as items:
                    async for item in items:
                        yield item
                return
            except RayActorError:
                _log.warning("a replica of %s died during %s, attempt %d", stage, method, attempt)
        raise _restarting(stage)

    def _handle(self, stage: str) -> DeploymentHandle[Any]:
        handle = self._handles.get(stage)
        if handle is None:
            raise NoRewardModel(f"this service was started without its {stage} stage; add it to serve_config.yaml")
        return handle


async def _call(handle: DeploymentHandle[Any], method: str, args: tuple[Any, ...]) -> Any:
    response = getattr(handle, method).remote(*args)
    with _typed_errors():
        try:
            return await response
        except asyncio.CancelledError:
            # The client hung up or the deadline passed.
            response.cancel()
            raise


async def _stream(handle: DeploymentHandle[Any], method: str, args: tuple[Any, ...]) -> AsyncGenerator[Any]:
    response = getattr(handle.options(stream=True), method).remote(*args)
    is_complete = False
    with _typed_errors():
        try:
            async for item in response:
                yield item
            is_complete = True
        finally:
            if not is_complete:
                response.cancel()


@contextmanager
def _typed_errors() -> Iterator[None]:
    """Raise errors of other stages with their own type, and errors of Ray with one that names the remedy."""
    try:
        yield
    except BackPressureError as error:
        raise Overloaded("too many requests wait already; try again in 3 seconds") from error
    except RayActorError:
        raise
    except RayTaskError as error:
        cause = error.cause
        # The original error, without the other process's traceback in its text.
        raise (cause if isinstance(cause, HarmonixrError) else error) from None
    except (DeploymentUnavailableError, RayServeException) as error:
        raise Unavailable("a stage of the service is not ready; try again in a few seconds") from error


def _restarting(stage: str) -> Unavailable:
    return Unavailable(f"the {stage} stage is restarting; try again in a few seconds")


def _collect_garbage_less_often() -> None:
    """Exclude all objects loaded so far from garbage collection, and collect after more new objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_NEW_OBJECTS, _GC_YOUNG_ROUNDS, _GC_YOUNG_ROUNDS)
