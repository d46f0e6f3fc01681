"""Serve's own `serve run`, which finishes the requests in progress before it ends.

Serve shuts down all deployments and the proxy at the same time: a fill in progress would lose its later stages.
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
    """Run Serve's command line; on SIGINT drain the ingress and exit."""
    from ray.serve.scripts import cli

    signal.signal(signal.SIGINT, _drain_and_exit)
    cli()


def _drain_and_exit(number: int, frame: FrameType | None) -> None:
    from ray import serve

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # Without this check the handle would wait for a graph that is not up.
        graph = serve.status().applications.get(APPLICATION)
        if graph is not None and graph.status == "RUNNING":
            serve.get_deployment_handle(INGRESS, APPLICATION).drain.remote().result(timeout_s=DRAIN_TIMEOUT_S)
    except Exception as error:
        # The parent process ends the rest.
        _log.warning("the graph was not drained: %s", error)
    sys.exit(0)
