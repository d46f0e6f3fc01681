"""Start Ray and the graph on this machine, and stop them with all processes that they started.

Each command starts in a session of its own, which `stop` ends. `ray stop` would end every Ray of the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.serving.deploy.haproxy import haproxy_environment

_GRACE_S = 3.0
_OBJECT_STORE_BYTES = 128 * 2**20
_RAY = "from ray.scripts.scripts import main; main()"
_SERVE = "from harmonixr_platform.serving.deploy.serve_run import run; run()"
# One event loop for each replica instead of three threads that pass every request on, and unary gRPC between
# deployments instead of Ray's streamed actor calls (decision 0010). Ray opens the gRPC ports with or without it and
# checks the cluster's token there; RAY_SERVE_THROUGHPUT_OPTIMIZED would also open HTTP ports without a check.
_SERVE_SETTINGS = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_FREEZE_GC_ON_STARTUP": "1",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
}
RAY_IS_UP = "Ray runtime started"


class StartFailed(HarmonixrError):
    """A process did not start, or ended by itself."""


class OwnProcess:
    """A command in a session of its own that writes to a log file. `stop` ends the command and its children."""

    def __init__(self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_ends_with_parent(),
            )

    def check(self) -> None:
        """Raise StartFailed when the process has ended."""
        status = self._process.poll()
        if status is not None:
            raise StartFailed(f"{self.name} ended with status {status}: {self.last_line()}; see {self.log}")

    def wait(self, *, timeout_s: float) -> None:
        """Wait until the command ends by itself; raise StartFailed when it fails or runs longer than `timeout_s`."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise StartFailed(f"{self.name} has not ended after {timeout_s:.0f} s; see {self.log}") from None
        if status:
            self.check()

    def last_line(self) -> str:
        """Return the last line of the log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "its log is empty"

    def has_logged(self, text: str) -> bool:
        """Return whether the log contains a text."""
        return text in self.log.read_text(errors="replace")

    def finish(self, *, timeout_s: float) -> bool:
        """Send SIGINT, as Ctrl-C does, and wait; return whether the command ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.poll() is not None

    def stop(self, *, grace_s: float = _GRACE_S) -> None:
        """End all processes of the session: SIGTERM first, SIGKILL after `grace_s`."""
        leader = self._process.pid
        _signal_all(leader, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and session_members(leader):
            self._process.poll()
            time.sleep(0.05)
        while session_members(leader):
            _signal_all(leader, signal.SIGKILL)
            self._process.poll()
            time.sleep(0.05)
        self._process.wait()


class LocalRay:
    """A Ray head on free ports, in a folder of its own, with a token that only `environment` holds."""

    def __init__(self, *, log: Path, environment: Mapping[str, str], dashboard_port: int | None = None) -> None:
        # It holds sockets, whose paths must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="hx-ray-"))
        self.port = free_port()
        self.environment = {
            **_SERVE_SETTINGS,
            **haproxy_environment(self._folder, free_port=free_port),
            **environment,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Without bytecode files every worker compiles its imports again.
            "PYTHONDONTWRITEBYTECODE": "",
        }
        self.environment.pop("RAY_ADDRESS", None)
        command = [
            *(sys.executable, "-c", _RAY, "start", "--head", "--block", "--disable-usage-stats", "--no-monitor"),
            *("--node-ip-address", "127.0.0.1", "--port", str(self.port)),
            *("--ray-client-server-port", str(free_port()), "--dashboard-agent-listen-port", str(free_port())),
            *("--metrics-export-port", str(free_port()), "--temp-dir", str(self._folder)),
            *("--num-cpus", str(max(2, os.cpu_count() or 1)), "--object-store-memory", str(_OBJECT_STORE_BYTES)),
            *("--include-dashboard", str(dashboard_port is not None).lower(), "--dashboard-host", "127.0.0.1"),
            *(("--dashboard-port", str(dashboard_port)) if dashboard_port else ()),
        ]
        self._restarts = 1
        self._command, self._log = command, log
        self.process = self._start()

    def _start(self) -> OwnProcess:
        return OwnProcess("Ray", self._command, log=self._log, environment=self.environment)

    @property
    def address(self) -> str:
        """The address for drivers."""
        return f"127.0.0.1:{self.port}"

    def is_up(self) -> bool:
        """Return whether it accepts drivers; raise StartFailed when it ended."""
        try:
            self.process.check()
        except StartFailed:
            # Ray's own start timeouts are fixed, and a busy machine may miss them: one restart is allowed.
            if not self._restarts:
                raise
            self._restarts -= 1
            self.process.stop()
            self.process = self._start()
        return self.process.has_logged(RAY_IS_UP)

    def serve(self, config: Path, *, log: Path, wait: bool = True) -> OwnProcess:
        """Deploy a serve config; the process runs as long as the graph, or without `wait` only for the deployment."""
        command = [sys.executable, "-c", _SERVE, "run", str(config), "--address", self.address]
        command += [] if wait else ["--non-blocking"]
        return OwnProcess("the graph", command, log=log, environment=self.environment)

    def stop(self) -> None:
        """End Ray and remove its folder."""
        self.process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def write_config(source: Path, target: Path, *, host: str, port: int) -> None:
    """Write a serve config with another address."""
    config: dict[str, Any] = yaml.safe_load(source.read_text())
    config["http_options"] = {**config.get("http_options", {}), "host": host, "port": port}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(yaml.safe_dump(config, sort_keys=False))


def free_port(wanted: int = 0, *, host: str = "127.0.0.1") -> int:
    """Return `wanted` if that port is free, else another free port."""
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket() as probe, contextlib.suppress(OSError):
            # As servers do: a port in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            found: int = probe.getsockname()[1]
            return found
    raise StartFailed(f"no port is free on {host}")


def session_members(leader: int) -> list[int]:
    """Return the running processes of the session that `leader` started."""
    return [pid for pid, session, state in _processes() if session == leader and state not in "ZX"]


def _ends_with_parent() -> Callable[[], None] | None:
    """Return a function for the child that makes the kernel end it with this process; None except on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    # Loaded before the fork: between fork and exec a process must not import.
    libc, request, number = ctypes.CDLL(None), 1, int(signal.SIGTERM)  # 1: PR_SET_PDEATHSIG, prctl(2)

    def set_death_signal() -> None:
        libc.prctl(request, number, 0, 0, 0)

    return set_death_signal


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield (process id, session, state) of every process."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(["ps", "-axo", "pid=,sess=,state="], capture_output=True, text=True, check=True).stdout
        for line in listing.splitlines():
            pid, session, state = line.split()
            yield int(pid), int(session, 0), state[0]
        return
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may contain any character.
            state, _, _, session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            yield int(folder.name), int(session), state


def _signal_all(leader: int, number: signal.Signals) -> None:
    for pid in session_members(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
