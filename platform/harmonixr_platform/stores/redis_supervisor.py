"""Run redis-server and stop it when the parent process ends. Run as a script; imports the standard library only.

`redis_supervisor.py LOCK COMMAND…`: standard input is a pipe that the parent holds open. When the parent ends, also by
`kill -9`, the kernel closes the pipe and the supervisor stops the server in order. The server inherits the lock on
LOCK. The lock is therefore held exactly as long as a server runs on that folder. Two servers on one folder would
corrupt the append-only file.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading

ALREADY_RUNNING = 75
_STOP_TIMEOUT_S = 15
_PR_SET_PDEATHSIG = 1


def main(lock_path: str, command: list[str]) -> int:
    """Run one server; return its exit status, or ALREADY_RUNNING if another process holds the lock."""
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ALREADY_RUNNING
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        preexec_fn=_die_with_parent,  # safe here: no thread has started yet
    )
    os.close(lock)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    return server.wait()


def _stop_at_end_of_input(server: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):
        pass
    server.terminate()
    try:
        server.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
