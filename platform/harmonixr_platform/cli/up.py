"""`harmonixr up`: run the whole service on this machine until Ctrl-C, and stop every process at the end."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.cli.progress import progress_bar

if TYPE_CHECKING:
    from harmonixr_platform.client import Client
    from harmonixr_platform.serving.deploy.local_ray import LocalRay, OwnProcess
    from harmonixr_platform.settings import Settings

# Twenty seconds on an idle machine of two cores; a busy one has taken three minutes.
READY_TIMEOUT_S = 600.0
POOL = "default"
EPILOG = """
The command starts Redis (unless HARMONIXR_REDIS_URL names a server), Ray, the graph of serve_config.yaml and the page,
and prints their addresses. It runs until Ctrl-C; with --check and without a terminal it stops after the check.
"""


class UpError(HarmonixrError):
    """The service did not come up."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--config", type=Path, metavar="YAML", help="serve config (default: serve_config.yaml)")
    parser.add_argument("--state-dir", type=Path, help="state folder (default: HARMONIXR_STATE_DIR, or var/)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port of the API (default: 8000, or a free one)")
    parser.add_argument("--ui-port", type=int, help="port of the page (default: 7860, or a free one)")
    parser.add_argument("--no-ui", action="store_true", help="start no page")
    parser.add_argument("--dashboard-port", type=int, help="also start Ray's dashboard, on loopback, on this port")
    parser.add_argument("--check", action="store_true", help="do one fill and one judgment over HTTP, and print them")


def run(args: argparse.Namespace) -> int:
    """Start, check, run, stop; return 0, or 1 when the service fails."""
    progress = progress_bar("checking serve_config.yaml")
    from harmonixr_platform.client import ServiceError
    from harmonixr_platform.serving.deploy.config_lint import lint_serve_config
    from harmonixr_platform.serving.deploy.local_ray import StartFailed

    # SIGINT too: a shell that starts us in the background has it ignored, and Python then leaves it so.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    settings = _settings(args)
    config = args.config or default_config()
    faults = lint_serve_config(config)
    if faults:
        progress.close()
        raise UpError("; ".join(faults))
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(progress.close)
            # The stack runs its callbacks in reverse: this message comes after everything has stopped.
            stack.callback(lambda: _report(progress, f"stopped; all data is in {settings.state_dir}"))
            _start_and_run(args, settings, config, stack, progress)
    except (StartFailed, ServiceError) as error:
        print(f"harmonixr up: {error}", file=sys.stderr)
        return 1
    return 0


def _start_and_run(
    args: argparse.Namespace, settings: Settings, config: Path, stack: contextlib.ExitStack, progress: Any
) -> None:
    from harmonixr_platform.client import Client

    started = time.monotonic()
    service = _start(args, settings, config, stack, progress)
    client = stack.enter_context(Client(service.api_url, api_key=next(iter(settings.api_key_list()), None)))
    progress.set_description_str("loading the model")
    _wait(lambda: _is_ready(client, service), progress, "the graph")
    _report(progress, f"ready after {time.monotonic() - started:.0f} s")
    from harmonixr_platform.cli import starter

    starter.ensure_pool(client, settings, pool=POOL, show=progress.set_description_str)
    if service.page_url:
        progress.set_description_str("opening the page")
        _wait(lambda: _responds(service), progress, "the page")
    progress.clear()
    if args.check:
        starter.check(client, pool=POOL, show=progress.set_description_str, done=lambda text: _report(progress, text))
        progress.clear()
    if service.page_url:
        print(f"  page  {service.page_url}")
    print(f"  API   {service.api_url}   (described at {service.api_url}/docs)")
    if args.check and not sys.stdin.isatty():
        return
    print("  Ctrl-C stops everything", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)
            service.check()
    progress.set_description_str("stopping")


@dataclass(frozen=True, slots=True)
class Service:
    """The addresses and processes of the service."""

    api_url: str
    page_url: str
    processes: list[OwnProcess]

    def check(self) -> None:
        """Raise StartFailed when a process has ended."""
        for process in self.processes:
            process.check()


def _start(
    args: argparse.Namespace, settings: Settings, config: Path, stack: contextlib.ExitStack, progress: Any
) -> Service:
    from harmonixr_platform.serving.deploy.local_ray import LocalRay, OwnProcess, write_config
    from harmonixr_platform.serving.deploy.serve_run import DRAIN_TIMEOUT_S
    from harmonixr_platform.stores.connect import redis_server

    host, logs = settings.host, settings.state_dir / "logs"
    # Replicas and the page read their settings from the environment.
    os.environ["HARMONIXR_STATE_DIR"] = str(settings.state_dir)
    progress.set_description_str("starting Redis")
    redis = redis_server(settings)
    stack.callback(redis.stop)
    redis.url()
    port = _choose_port(settings.api_port, host, "the API", progress)
    progress.set_description_str("starting Ray")
    ray = LocalRay(log=logs / "ray.log", environment=os.environ, dashboard_port=args.dashboard_port)
    stack.callback(ray.stop)
    stack.callback(lambda: progress.set_description_str("stopping Ray"))
    page_url, pages = "", []
    api_url = f"http://{_reachable(host)}:{port}"
    if not args.no_ui:
        ui_port = _choose_port(settings.ui_port, host, "the page", progress, taken=port)
        page_url = f"http://{_reachable(host)}:{ui_port}"
        command = [sys.executable, "-m", "harmonixr_ui", "--api", api_url, "--host", host, "--port", str(ui_port)]
        page = OwnProcess("the page", command, log=logs / "page.log", environment=os.environ)
        stack.callback(page.stop)
        pages = [page]
    _wait(ray.is_up, progress, "Ray")
    progress.set_description_str("starting the graph")
    resolved = settings.state_dir / "serve_config.yaml"
    write_config(config, resolved, host=host, port=port)
    graph = ray.serve(resolved, log=logs / "graph.log")
    stack.callback(graph.stop)
    stack.callback(graph.finish, timeout_s=DRAIN_TIMEOUT_S)
    _wait(lambda: _listens(ray, graph, port), progress, "the graph")
    return Service(api_url, page_url, [ray.process, graph, *pages])


def _report(progress: Any, text: str) -> None:
    """Print a line that stays above the progress display."""
    progress.write(text)
    sys.stdout.flush()


def _settings(args: argparse.Namespace) -> Settings:
    from harmonixr_platform.settings import Settings

    given = {"state_dir": args.state_dir, "host": args.host, "api_port": args.port, "ui_port": args.ui_port}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def default_config() -> Path:
    """Return the checkout's serve config, or the one of the working folder."""
    checkout = Path(__file__).resolve().parents[3] / "serve_config.yaml"
    return checkout if checkout.is_file() else Path("serve_config.yaml").resolve()


def _choose_port(preferred: int, host: str, name: str, progress: Any, *, taken: int = 0) -> int:
    from harmonixr_platform.serving.deploy.local_ray import free_port

    port = free_port(preferred if preferred != taken else 0, host=host)
    if port != preferred:
        _report(progress, f"port {preferred} is in use; {name} uses {port}")
    return port


def _wait(is_done: Callable[[], bool], progress: Any, name: str) -> None:
    from harmonixr_platform.serving.deploy.local_ray import StartFailed

    deadline = time.monotonic() + READY_TIMEOUT_S
    while not is_done():
        if time.monotonic() > deadline:
            raise StartFailed(f"{name} is not ready after {READY_TIMEOUT_S:.0f} s; see its log")
        progress.update(0)
        time.sleep(0.1)


def _listens(ray: LocalRay, graph: OwnProcess, port: int) -> bool:
    import socket

    ray.process.check()
    graph.check()
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ready(client: Client, service: Service) -> bool:
    service.check()
    return client.is_ready()


def _responds(service: Service) -> bool:
    import httpx

    service.check()
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(service.page_url, timeout=5, follow_redirects=True).status_code == 200
    return False


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", "::"} else host


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A second signal must not interrupt the cleanup.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
