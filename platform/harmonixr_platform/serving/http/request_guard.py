"""An ASGI middleware that checks API keys, sizes and content types before a body is read, and counts requests."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.serving.errors import Unauthorized, UnsupportedMedia, too_large
from harmonixr_platform.serving.http.drain_latch import DrainLatch
from harmonixr_platform.serving.http.metrics import Metrics
from harmonixr_platform.serving.http.problems import error_response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Monitoring and documentation need no key; sounds have tokens that cannot be guessed.
_OPEN = ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v1/audio/")
_FORMS = ("/v1/infill",)
_OPTIONS_BYTES = 64 * 1024
_RECEIVED, _CALLER = "harmonixr.received", "harmonixr.caller"


class RequestGuard:
    """Refuses requests that no route would read, and counts all others."""

    def __init__(
        self, app: App, *, metrics: Metrics, latch: DrainLatch, max_midi_bytes: int, api_keys: Sequence[str]
    ) -> None:
        self._app = app
        self._latch = latch
        self._metrics = metrics
        # JSON carries the file as base64: four characters for three bytes.
        self._max_body = (max_midi_bytes + 2) // 3 * 4 + _OPTIONS_BYTES
        self._max_midi_bytes = max_midi_bytes
        self._keys = [key.encode() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = scope[_RECEIVED] = time.perf_counter()
        status, read = 500, 0

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        async def limited_send(message: Message) -> None:
            # A framework turns the error of a body over the limit into a response of its own: drop that.
            if read <= self._max_body:
                await watched_send(message)

        async def limited_receive() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_body:
                raise too_large(self._max_midi_bytes)
            return message

        with self._metrics.running.track_inprogress():
            try:
                self._check(scope)
                with self._latch.enter():
                    await self._app(scope, limited_receive, limited_send)
                if read > self._max_body:
                    raise too_large(self._max_midi_bytes)
            except HarmonixrError as error:
                await error_response(error)(scope, receive, watched_send)
            finally:
                path = _path_label(scope)
                self._metrics.requests.labels(path, str(status)).inc()
                self._metrics.latency.labels(path).observe(time.perf_counter() - received)

    def _check(self, scope: Scope) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        path = scope["path"]
        scope[_CALLER] = str((scope.get("client") or ("",))[0])
        if self._keys and not path.startswith(_OPEN):
            scope[_CALLER] = self._check_key(headers)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:
            raise too_large(self._max_midi_bytes)
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
        # Names of callers may appear in logs, where the key itself must not.
        return hashlib.sha256(given).hexdigest()[:16]


def caller_name(scope: Scope) -> str:
    """Return the caller, for limits: the fingerprint of its API key, or its address in a service without keys."""
    return str(scope.get(_CALLER, ""))


def received_at(scope: Scope) -> float:
    """Return when (`time.perf_counter`) the head of the request was read."""
    return float(scope[_RECEIVED])


def _path_label(scope: Scope) -> str:
    # Unknown paths share a label, so that a scanner cannot grow the metrics without limit.
    route = scope.get("route")
    return str(getattr(route, "path", "other"))
