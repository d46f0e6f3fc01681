"""A complete service in its own folder: Redis, Ray and the graph of serve_config.yaml on free ports."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import yaml

from harmonixr_platform.client import Client
from harmonixr_platform.serving.deploy.local_ray import LocalRay, OwnProcess, free_port, session_members, write_config
from harmonixr_platform.stores.embedded_redis import server_binary

CONFIG = Path(__file__).resolve().parents[2] / "serve_config.yaml"
READY_TIMEOUT_S = 600.0
_REDIS = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction")


class LiveService:
    """A running service; `stop` ends all its processes."""

    def __init__(self, folder: Path, *, environment: dict[str, str] | None = None) -> None:
        started = time.monotonic()
        self.folder = folder
        self._redis_port = free_port()
        self._base = {
            **os.environ,
            "HARMONIXR_STATE_DIR": str(folder),
            "HARMONIXR_REDIS_URL": f"redis://127.0.0.1:{self._redis_port}/0",
            "HARMONIXR_RATER_PER_MINUTE": "0",
            **(environment or {}),
        }
        self._deploys = 0
        self._redis = self._start_redis()
        self.ray = LocalRay(log=folder / "ray.log", environment=self._base)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._config = folder / "serve_config.yaml"
        self._graph: OwnProcess | None = None
        try:
            self._wait(self.ray.is_up)
            write_config(CONFIG, self._config, host="127.0.0.1", port=self.port)
            self._graph = self.ray.serve(self._config, log=folder / "graph.log")
            with Client(self.url) as client:
                self._wait(client.is_ready)
        except BaseException:
            self.stop()
            raise
        self.ready_after_s = time.monotonic() - started

    def __enter__(self) -> LiveService:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def kill(self, deployment: str) -> None:
        """Kill the replicas of a deployment."""
        for pid in self.replicas(deployment):
            os.kill(pid, signal.SIGKILL)

    def replicas(self, deployment: str) -> list[int]:
        """Return the process ids of a deployment's replicas."""
        found = []
        for pid in session_members(self.ray.process._process.pid):
            name = Path(f"/proc/{pid}/cmdline")
            if name.exists() and f"ServeReplica:harmonixr:{deployment}" in name.read_text():
                found.append(pid)
        return found

    def memory_mib(self) -> float:
        """Return the memory of all processes; shared pages count once (PSS)."""
        leaders = [self.ray.process, self._redis, *([self._graph] if self._graph else [])]
        pids = [pid for leader in leaders for pid in session_members(leader._process.pid)]
        return sum(_pss_kib(pid) for pid in pids) / 1024

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds of each part since its start."""
        used: dict[str, float] = {}
        for pid in session_members(self.ray.process._process.pid):
            name, seconds = _usage(pid)
            used[name] = used.get(name, 0.0) + seconds
        return used

    def deploy(self, *, args: dict[str, Any] | None = None, user_config: dict[str, Any] | None = None) -> None:
        """Deploy the graph with other arguments (replaces every replica), or the Model with another user_config."""
        config = yaml.safe_load(self._config.read_text())
        application = config["applications"][0]
        application["args"].update(args or {})
        if user_config is not None:
            next(d for d in application["deployments"] if d["name"] == "Model")["user_config"] = user_config
        self._config.write_text(yaml.safe_dump(config))
        self._deploys += 1
        deploying = self.ray.serve(self._config, log=self.folder / f"deploy-{self._deploys}.log", wait=False)
        deploying.wait(timeout_s=READY_TIMEOUT_S)

    def interrupt_redis(self, seconds: float) -> None:
        """Kill Redis and restart it after some seconds."""
        self._redis.stop(grace_s=0)
        time.sleep(seconds)
        self._redis = self._start_redis()

    def finish(self) -> None:
        """Stop the graph gracefully, as Ctrl-C does."""
        assert self._graph is not None
        if not self._graph.finish(timeout_s=120):
            raise TimeoutError("the graph did not stop within two minutes")

    def stop(self) -> None:
        """End everything."""
        if self._graph:
            self._graph.stop()
        self.ray.stop()
        self._redis.stop()

    def _start_redis(self) -> OwnProcess:
        command = [server_binary(), "--port", str(self._redis_port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return OwnProcess("Redis", [*command, *_REDIS], log=self.folder / "redis.log", environment=os.environ)

    def _wait(self, is_done: Any) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not is_done():
            if self._graph:
                self._graph.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the service is not ready after {READY_TIMEOUT_S:.0f} s; see {self.folder}")
            time.sleep(0.1)


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _usage(pid: int) -> tuple[str, float]:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "Ray", 0.0
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    if "ServeReplica:" in command:
        return command.split(":")[-1].strip(), seconds
    return ("Proxy" if "Proxy" in command or "haproxy" in command else "Ray"), seconds
