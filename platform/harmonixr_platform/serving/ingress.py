"""The Ingress deployment: the HTTP application on top of handles to the other deployments.

The only place that calls a handle: here errors of other stages get their own type back, a replica that died is asked
again once, and an overflowing queue becomes an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.errors import NoRewardModel, Overloaded, Unavailable
from harmonixr_platform.serving.stages import Call, Stages

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

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the HTTP application; called once by Serve, on the replica's event loop."""
        from harmonixr_platform.serving.api import make_api
        from harmonixr_platform.serving.service import Service
        from harmonixr_platform.settings import Settings

        service = Service(Stages(remote_call(self._stages)), self._args)
        return make_api(service, self._args, api_keys=Settings().api_key_list())


def remote_call(handles: Mapping[str, DeploymentHandle[Any]]) -> Call:
    """Return a Call through deployment handles."""

    async def call(stage: str, method: str, *args: Any) -> Any:
        handle = handles.get(stage)
        if handle is None:
            raise NoRewardModel(f"this service was started without its {stage} stage; add it to serve_config.yaml")
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await _once(handle, method, args)
            except RayActorError:
                _log.warning("a replica of %s died during %s, attempt %d", stage, method, attempt)
        raise Unavailable(f"the {stage} stage is being restarted; try again in a few seconds")

    return call


async def _once(handle: DeploymentHandle[Any], method: str, args: tuple[Any, ...]) -> Any:
    response = getattr(handle, method).remote(*args)
    try:
        return await response
    except asyncio.CancelledError:
        # The caller hung up or its deadline passed: nobody waits for this any more.
        response.cancel()
        raise
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
