"""Serve's own `serve run`, which answers what it has begun before it ends. Starts nothing by itself.

Serve shuts all deployments and the proxy down at once: a fill that is being made would lose the stages that finish it.
"""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

_log = logging.getLogger("ray.serve")
APPLICATION, INGRESS = "harmonixr", "Ingress"
DRAIN_TIMEOUT_S = 75.0


def run() -> None:
    """Run Serve's command line; on SIGINT close the ingress's door, wait for those inside, and leave."""
    from ray.serve.scripts import cli

    signal.signal(signal.SIGINT, _drain_and_leave)
    cli()


def _drain_and_leave(number: int, frame: FrameType | None) -> None:
    from ray import serve

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # A graph that is not up has nothing to finish, and its handle would wait for it to come up.
        graph = serve.status().applications.get(APPLICATION)
        if graph is not None and graph.status == "RUNNING":
            serve.get_deployment_handle(INGRESS, APPLICATION).drain.remote().result(timeout_s=DRAIN_TIMEOUT_S)
    except Exception as error:
        # Whoever stops us ends the rest.
        _log.warning("the graph was not drained: %s", error)
    sys.exit(0)
