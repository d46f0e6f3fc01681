"""Calls to the service over HTTP, with safe retries.

A request is sent again after 429, 503, a lost connection or an error of a proxy. Every attempt has the same
Idempotency-Key or judgment id, so that the service executes it once. The client obeys Retry-After.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel, ValidationError

from harmonixr_platform.client.errors import ServiceError
from harmonixr_platform.client.events import SSE_TYPE, read_events
from harmonixr_platform.client.retries import Refused, Retries, failure_of
from harmonixr_platform.schemas import (
    CandidateView,
    Choice,
    ComparisonRequest,
    ComparisonView,
    Consent,
    ControlSpec,
    InfillBar,
    InfillEvent,
    InfillRequest,
    InfillResponse,
    InspectRequest,
    InspectResponse,
    JudgmentReceipt,
    JudgmentRequest,
    Listening,
    ModelsResponse,
    PreviewRequest,
    RegionSpec,
    RetractionReceipt,
    RetractionRequest,
    SamplingSpec,
    Tag,
)

Body = TypeVar("Body", bound=BaseModel)

PROBLEM_TYPE = "application/problem+json"


class Client:
    """The service at `base_url`; use as a context manager, or close it. Every method raises ServiceError."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 90.0,
        attempts: int = 8,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._retries = Retries(self.base_url, attempts=attempts, sleep=sleep)
        self._http = httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout_s, connect=5.0),
            transport=transport,
        )

    def infill(
        self,
        midi: bytes,
        region: RegionSpec,
        *,
        controls: ControlSpec | None = None,
        sampling: SamplingSpec | None = None,
        model: str = "champion",
    ) -> InfillResponse:
        """Return fills of a gap."""
        return self._post(InfillResponse, "/v1/infill", _infill_request(midi, region, controls, sampling, model))

    def infill_stream(
        self,
        midi: bytes,
        region: RegionSpec,
        *,
        controls: ControlSpec | None = None,
        sampling: SamplingSpec | None = None,
        model: str = "champion",
    ) -> Iterator[InfillEvent]:
        """Yield the events of a fill as they come: InfillAccepted, InfillBar and CandidateView, and last InfillDone.

        A broken stream is requested again and continues where it was. Closing the iterator cancels the fill.
        """
        request = _infill_request(midi, region, controls, sampling, model)
        content = request.model_dump_json().encode()
        headers = self._headers() | {"Accept": SSE_TYPE, "Content-Type": "application/json"}
        seen: set[Hashable] = set()

        def once() -> Iterator[InfillEvent]:
            with self._http.stream("POST", "/v1/infill", content=content, headers=headers) as response:
                if response.status_code >= 400:
                    response.read()
                    raise Refused(response)
                self._retries.has_connected = True
                yield from read_events(response.iter_lines())

        for attempt in self._retries.attempts():
            try:
                for event in once():
                    if (name := _event_name(event)) not in seen:
                        seen.add(name)
                        yield event
                return
            except (Refused, ServiceError, httpx.TransportError) as error:
                self._retries.wait(attempt, error)

    def compare(
        self, rater_key: str, *, pool: str | None = None, infill: InfillRequest | None = None
    ) -> ComparisonView:
        """Return two blind fills: of a pool, or of the caller's own gap."""
        request = ComparisonRequest(rater_key=rater_key, pool=pool, infill=infill)
        return self._post(ComparisonView, "/v1/comparisons", request)

    def judge(
        self,
        comparison: ComparisonView,
        choice: Choice,
        *,
        rater_key: str,
        listening: Listening | None = None,
        strength: int | None = None,
        tags: Sequence[Tag] = (),
        comment: str = "",
        consent: Consent | None = None,
        simulated: bool = False,
        judgment_id: str | None = None,
    ) -> JudgmentReceipt:
        """Judge which fill is better; the judgment is on disk when this returns.

        The service accepts a verdict only with `listening` that covers enough of both fills, or if it is `simulated`.
        """
        request = JudgmentRequest(
            judgment_id=judgment_id or secrets.token_hex(16),
            comparison_id=comparison.comparison_id,
            token=comparison.token,
            rater_key=rater_key,
            choice=choice,
            strength=strength,
            tags=tuple(tags),
            comment=comment,
            listening=listening or Listening(),
            consent=consent,
            simulated=simulated,
        )
        return self.send_judgment(request)

    def send_judgment(self, request: JudgmentRequest) -> JudgmentReceipt:
        """Send a judgment; it is on disk when this returns."""
        return self._post(JudgmentReceipt, "/v1/judgments", request)

    def retract(self, judgment_id: str, *, rater_key: str) -> RetractionReceipt:
        """Retract a judgment."""
        request = RetractionRequest(judgment_id=judgment_id, rater_key=rater_key)
        return self._post(RetractionReceipt, "/v1/retractions", request)

    def inspect(self, midi: bytes) -> InspectResponse:
        """Return the bars, tracks and notes of a file."""
        request = InspectRequest(midi_base64=base64.b64encode(midi).decode())
        return self._post(InspectResponse, "/v1/inspect", request)

    def preview(self, midi: bytes, *, start_s: float = 0.0, end_s: float | None = None) -> bytes:
        """Return an excerpt of a file as WAV."""
        request = PreviewRequest(midi_base64=base64.b64encode(midi).decode(), start_s=start_s, end_s=end_s)
        return self._send("POST", "/v1/preview", request).content

    def sound(self, audio_url: str) -> bytes:
        """Return the WAV at the `audio_url` of a candidate or a comparison."""
        return self._send("GET", audio_url).content

    def models(self) -> ModelsResponse:
        """Return the versions in the registry."""
        return _read(ModelsResponse, self._send("GET", "/v1/models"))

    def leaderboard_page(self, *, study: str | None = None) -> str:
        """Return the leaderboard of one study or pool, or of all, as an HTML page."""
        query = f"?{urlencode({'study': study})}" if study else ""
        return self._send("GET", f"/v1/leaderboard/page{query}").text

    def is_ready(self) -> bool:
        """Return whether the service can decode a token now; raises ServiceError when waiting cannot help."""
        try:
            response = self._http.get("/readyz")
        except httpx.TransportError:
            return False
        # Until the graph is up, Serve itself responds with 404 in plain text; the graph responds with a problem.
        if response.status_code == 404 and response.headers.get("content-type") == PROBLEM_TYPE:
            raise failure_of(response)
        return response.status_code == 200

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, kind: type[Body], path: str, request: BaseModel) -> Body:
        return _read(kind, self._send("POST", path, request))

    def _send(self, method: str, path: str, request: BaseModel | None = None) -> httpx.Response:
        headers = self._headers()
        content = None
        if request is not None:
            content = request.model_dump_json().encode()
            headers["Content-Type"] = "application/json"
        for attempt in self._retries.attempts():
            try:
                response = self._http.request(method, path, content=content, headers=headers)
                self._retries.has_connected = True
                if response.status_code < 400:
                    return response
                raise Refused(response)
            except (Refused, httpx.TransportError) as error:
                self._retries.wait(attempt, error)
        raise AssertionError("the last attempt returns or raises")

    def _headers(self) -> dict[str, str]:
        return {"Idempotency-Key": secrets.token_hex(16)}


def _infill_request(
    midi: bytes, region: RegionSpec, controls: ControlSpec | None, sampling: SamplingSpec | None, model: str
) -> InfillRequest:
    return InfillRequest(
        midi_base64=base64.b64encode(midi).decode(),
        region=region,
        controls=controls or ControlSpec(),
        sampling=sampling or SamplingSpec(),
        model=model,
    )


def _read(kind: type[Body], response: httpx.Response) -> Body:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        detail = "the service has another version than this client; update both"
        raise ServiceError(detail, status=502) from error


def _event_name(event: InfillEvent) -> Hashable:
    """Return a name that is different for each event of a stream and the same in a repeated stream."""
    if isinstance(event, InfillBar):
        return "bar", event.seed, event.bar, event.track
    return (type(event), event.index if isinstance(event, CandidateView) else 0)
