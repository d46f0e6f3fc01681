"""The door of the HTTP ingress, before any body is read: keys, sizes, content types; and what is counted behind it.

A plain ASGI middleware. Knows no route but by its path.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.schemas import CandidateView, InfillDone, InfillEvent, InfillResponse
from harmonixr_platform.serving.errors import (
    PROBLEM_TYPE,
    TooLarge,
    Unauthorized,
    UnsupportedMedia,
    problem_of,
    retry_after_s,
)
from harmonixr_platform.serving.http.backlog_metrics import BacklogGauges
from harmonixr_platform.serving.http.drain_latch import DrainLatch

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Whoever watches the service or reads about it needs no key; sounds are named by tokens nobody can guess.
_OPEN = ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v1/audio/")
_FORMS = ("/v1/infill",)
_OPTIONS_BYTES = 64 * 1024
_ARRIVED, _CALLER = "harmonixr.arrived", "harmonixr.caller"
_STAGE_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """What Prometheus reads, in vLLM's terms where it has one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "harmonixr:http_requests", "requests by route and status", ["path", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "harmonixr:e2e_request_latency_seconds",
            "from the request's head to the answer's end",
            ["path"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge("harmonixr:num_requests_running", "requests in work", registry=self.registry)
        self.tokens = Counter("harmonixr:generation_tokens", "fill tokens answered", registry=self.registry)
        self.judgments = Counter("harmonixr:judgments", "judgments stored", registry=self.registry)
        self.backlog = BacklogGauges(self.registry)
        self.stages = Histogram(
            "harmonixr:stage_seconds",
            "how long a fill spent in each stage; graph: between them",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )

    def hear(self, event: InfillEvent | InfillResponse) -> None:
        """Count what was answered."""
        if isinstance(event, CandidateView):
            self.tokens.inc(sum(len(window) for window in event.tokens))
        elif isinstance(event, InfillDone | InfillResponse):
            for stage, took_ms in event.timings_ms.items():
                self.stages.labels(stage).observe(took_ms / 1000)


class Gate:
    """Refuses what no route would read, counts the rest."""

    def __init__(
        self, app: App, *, metrics: Metrics, door: DrainLatch, max_midi_bytes: int, api_keys: Sequence[str]
    ) -> None:
        self._app = app
        self._door = door
        self._metrics = metrics
        # JSON carries the file as base64: four characters for three bytes.
        self._max_body = (max_midi_bytes + 2) // 3 * 4 + _OPTIONS_BYTES
        self._max_midi_bytes = max_midi_bytes
        self._keys = [key.encode() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = scope[_ARRIVED] = time.perf_counter()
        status, read = 500, 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        async def answered(message: Message) -> None:
            # Frameworks turn a failed read into an answer of their own; it would hide what was wrong.
            if read <= self._max_body:
                await watched(message)

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_body:
                raise self._too_large()
            return message

        with self._metrics.running.track_inprogress():
            try:
                self._check(scope)
                with self._door.enter():
                    await self._app(scope, limited, answered)
                if read > self._max_body:
                    raise self._too_large()
            except HarmonixrError as error:
                await _refuse(error, watched)
            finally:
                path = _path_label(scope)
                self._metrics.requests.labels(path, str(status)).inc()
                self._metrics.latency.labels(path).observe(time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        path = scope["path"]
        scope[_CALLER] = str((scope.get("client") or ("",))[0])
        if self._keys and not path.startswith(_OPEN):
            scope[_CALLER] = self._check_key(headers)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:
            raise self._too_large()
        if scope["method"] == "POST":
            kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
            if kind != b"application/json" and not (kind == b"multipart/form-data" and path in _FORMS):
                raise UnsupportedMedia(
                    f"{kind.decode('latin-1') or 'no content type'} is not read here; send application/json"
                    + (", or multipart/form-data with `file` and `options`" if path in _FORMS else "")
                )

    def _check_key(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        # Every key is compared, and each in constant time.
        if sum(hmac.compare_digest(given, key) for key in self._keys) == 0:
            raise Unauthorized("this service needs an API key; send it as `Authorization: Bearer KEY`")
        # A name for bounds, which may come into logs: the key itself must not.
        return hashlib.sha256(given).hexdigest()[:16]

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the MIDI file is larger than {self._max_midi_bytes // 2**20} MiB, the most that is read")


def caller_name(scope: Scope) -> str:
    """Return who asks, for bounds: the API key's fingerprint, or the address where no key is asked for."""
    return str(scope.get(_CALLER, ""))


def seconds_since_arrival(scope: Scope) -> float:
    """Return how long ago the request's head was read."""
    return time.perf_counter() - float(scope[_ARRIVED])


async def _refuse(error: HarmonixrError, send: Send) -> None:
    problem = problem_of(error)
    headers = [(b"content-type", PROBLEM_TYPE.encode())]
    wait_s = retry_after_s(error)
    if wait_s is not None:
        headers.append((b"retry-after", str(wait_s).encode()))
    if problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": problem.model_dump_json().encode()})


def _path_label(scope: Scope) -> str:
    # Paths that nobody serves share a label: a scanner must not grow the metrics without end.
    route = scope.get("route")
    return str(getattr(route, "path", "other"))
