"""Run the service for the loop: Redis, Ray and the graph, or Redis and one HTTP server without Ray."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harmonixr_platform.client import Client
from harmonixr_platform.serving.deploy.local_ray import LocalRay, free_port, write_config
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import redis_server

_READY_TIMEOUT_S = 600.0


@contextlib.contextmanager
def running_service(settings: Settings, config: Path, *, log: Callable[[str], None]) -> Iterator[str]:
    """Start the graph of a serve config on free ports, yield its address, and stop everything at the end."""
    # Replicas read their settings from the environment.
    os.environ["HARMONIXR_STATE_DIR"] = str(settings.state_dir)
    with contextlib.ExitStack() as stack:
        log("starting Redis and Ray")
        redis = redis_server(settings)
        stack.callback(redis.stop)
        redis.url()
        logs = settings.state_dir / "logs"
        ray = LocalRay(log=logs / "ray.log", environment=os.environ)
        stack.callback(ray.stop)
        _wait(ray.is_up)
        log("starting the graph")
        port = free_port()
        resolved = settings.state_dir / "serve_config.yaml"
        write_config(config, resolved, host="127.0.0.1", port=port)
        graph = ray.serve(resolved, log=logs / "graph.log")
        stack.callback(graph.stop)
        url = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            ray.process.check()
            graph.check()
            with Client(url, api_key=next(iter(settings.api_key_list()), None)) as client:
                return client.is_ready()

        _wait(is_ready)
        yield url


@contextlib.contextmanager
def one_process_service(settings: Settings) -> Iterator[str]:
    """Serve comparisons and judgments over HTTP from this process, with a real Redis and without Ray."""
    import uvicorn

    from harmonixr_platform.serving.arguments import ServingArgs
    from harmonixr_platform.serving.http.api import make_api
    from harmonixr_platform.serving.infill.service import Service
    from harmonixr_platform.serving.stages.feedback import Feedback
    from harmonixr_platform.serving.transport.stages import LocalCall, Stages

    args, port = ServingArgs(), free_port()
    with contextlib.ExitStack() as stack:
        redis = redis_server(settings)
        stack.callback(redis.stop)
        redis.url()
        feedback = Feedback(args, settings=settings)
        stack.callback(feedback.stop)
        app = make_api(Service(Stages(LocalCall({"Feedback": feedback})), args), args)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, name="loop-http", daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(lambda: setattr(server, "should_exit", True))
        _wait(lambda: server.started)
        yield f"http://127.0.0.1:{port}"


def _wait(is_done: Callable[[], bool]) -> None:
    from harmonixr_platform.serving.deploy.local_ray import StartFailed

    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not is_done():
        if time.monotonic() > deadline:
            raise StartFailed(f"the service is not ready after {_READY_TIMEOUT_S:.0f} s; see its logs")
        time.sleep(0.3)
