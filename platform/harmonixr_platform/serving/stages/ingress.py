"""The Ingress deployment: the HTTP application on top of handles to the other deployments.

The only place that calls a handle: here errors of other stages get their own type back, a replica that died is asked
again once, and an overflowing queue becomes an answer.
"""

from __future__ import annotations

import asyncio
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
from harmonixr_platform.serving.stages.garbage import look_less_often
from harmonixr_platform.serving.transport.stages import Stages

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve.handle import DeploymentHandle

_log = logging.getLogger("ray.serve")
# A stage whose replica died is asked once more: no stage does anything that may not be done twice.
_ATTEMPTS = 2


class Ingress:
    """The graph's front. A plain class: the builder makes it a deployment."""

    def __init__(self, args: ServingArgs, stages: Mapping[str, DeploymentHandle[Any]]) -> None:
        self._args = args
        self._stages = stages
        self._door = DrainLatch()

    async def drain(self) -> None:
        """Let no more requests in, and return when those inside are answered."""
        await self._door.drain()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the HTTP application; called once by Serve, on the replica's event loop."""
        from harmonixr_platform.serving.http.api import make_api
        from harmonixr_platform.serving.infill.redis_response_cache import RedisResponseCache
        from harmonixr_platform.serving.infill.service import Service
        from harmonixr_platform.serving.stages.decoding import Decoding
        from harmonixr_platform.serving.stages.tokenization import Tokenization
        from harmonixr_platform.serving.transport.in_process import InProcessCall
        from harmonixr_platform.settings import Settings

        settings = Settings()
        recall = RedisResponseCache.open(settings, self._args)
        near = {"Tokenization": Tokenization(self._args), "Decoding": Decoding(self._args)}
        call = InProcessCall(RemoteCall(self._stages), near, max_midi_bytes=self._args.in_process_midi_bytes)
        service = Service(Stages(call), self._args, recall=recall)
        api = make_api(service, self._args, api_keys=settings.api_key_list(), door=self._door)
        look_less_often()
        return api


class RemoteCall:
    """Calls through deployment handles."""

    def __init__(self, handles: Mapping[str, DeploymentHandle[Any]]) -> None:
        self._handles = handles

    async def __call__(self, stage: str, method: str, *args: Any) -> Any:
        """Return what the stage's method returns."""
        handle = self._handle(stage)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await _once(handle, method, args)
            except RayActorError:
                _log.warning("a replica of %s died during %s, attempt %d", stage, method, attempt)
        raise _being_restarted(stage)

    async def stream(self, stage: str, method: str, *args: Any) -> AsyncIterator[Any]:
        """Give what the stage's method gives; when its replica dies, another gives it from the beginning."""
        handle = self._handle(stage)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with aclosing(_stream_once(handle, method, args)) as items:
                    async for item in items:
                        yield item
                return
            except RayActorError:
                _log.warning("a replica of %s died during %s, attempt %d", stage, method, attempt)
        raise _being_restarted(stage)

    def _handle(self, stage: str) -> DeploymentHandle[Any]:
        handle = self._handles.get(stage)
        if handle is None:
            raise NoRewardModel(f"this service was started without its {stage} stage; add it to serve_config.yaml")
        return handle


async def _once(handle: DeploymentHandle[Any], method: str, args: tuple[Any, ...]) -> Any:
    response = getattr(handle, method).remote(*args)
    with _own_errors():
        try:
            return await response
        except asyncio.CancelledError:
            # The caller hung up or its deadline passed: nobody waits for this any more.
            response.cancel()
            raise


async def _stream_once(handle: DeploymentHandle[Any], method: str, args: tuple[Any, ...]) -> AsyncGenerator[Any]:
    response = getattr(handle.options(stream=True), method).remote(*args)
    is_over = False
    with _own_errors():
        try:
            async for item in response:
                yield item
            is_over = True
        finally:
            if not is_over:
                response.cancel()


@contextmanager
def _own_errors() -> Iterator[None]:
    """Give errors of other stages their own type back, and those of Ray one that says what to do."""
    try:
        yield
    except BackPressureError as error:
        raise Overloaded("too many requests wait already; try again in 3 seconds") from error
    except RayActorError:
        raise
    except RayTaskError as error:
        cause = error.cause
        # The original error, without the other process's trace in its text.
        raise (cause if isinstance(cause, HarmonixrError) else error) from None
    except (DeploymentUnavailableError, RayServeException) as error:
        raise Unavailable("a stage of the service is not ready; try again in a few seconds") from error


def _being_restarted(stage: str) -> Unavailable:
    return Unavailable(f"the {stage} stage is being restarted; try again in a few seconds")
