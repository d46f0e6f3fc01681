"""Calls to the service over HTTP, retried safely. Knows the wire's schemas and nothing else of the platform.

A request is sent again after 429, 503, a lost connection or a fault in front of the service, always with the same
Idempotency-Key (or judgment id), so that it is carried out once however often it is sent. Retry-After is obeyed.
"""

from __future__ import annotations

import base64
import random
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
    Problem,
    RegionSpec,
    RetractionReceipt,
    RetractionRequest,
    SamplingSpec,
    Tag,
)

Answer = TypeVar("Answer", bound=BaseModel)

RETRIED = (429, 503)
PROBLEM_TYPE = "application/problem+json"
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 15.0
# A service that never answered is not there: whoever waits for it wants to know soon.
_CONNECTING_ATTEMPTS = 4


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
        self._attempts = attempts
        self._has_answered = False
        self._sleep = sleep
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
        """Give fills of a gap as they are made: InfillAccepted, InfillBar and CandidateView, and last InfillDone.

        A stream that breaks is asked for again, and goes on where it was. Closing the iterator gives the request up.
        """
        request = _infill_request(midi, region, controls, sampling, model)
        content = request.model_dump_json().encode()
        headers = self._headers() | {"Accept": SSE_TYPE, "Content-Type": "application/json"}
        told: set[Hashable] = set()

        def once() -> Iterator[InfillEvent]:
            with self._http.stream("POST", "/v1/infill", content=content, headers=headers) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _Refused(response)
                self._has_answered = True
                yield from read_events(response.iter_lines())

        for attempt in range(1, self._attempts + 1):
            try:
                for event in once():
                    if (name := _event_name(event)) not in told:
                        told.add(name)
                        yield event
                return
            except (_Refused, ServiceError, httpx.TransportError) as error:
                self._sleep(self._pause_s(attempt, error))

    def compare(
        self, rater_key: str, *, pool: str | None = None, infill: InfillRequest | None = None
    ) -> ComparisonView:
        """Return two blind fills: of a pool, or of one's own gap."""
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
        """Say which fill is better; when this returns the answer is on disk, once.

        The service takes a verdict only with `listening` that covers enough of both fills, unless it is `simulated`.
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
        """Send an answer as it stands; when this returns it is on disk, once."""
        return self._post(JudgmentReceipt, "/v1/judgments", request)

    def retract(self, judgment_id: str, *, rater_key: str) -> RetractionReceipt:
        """Take a judgment back."""
        request = RetractionRequest(judgment_id=judgment_id, rater_key=rater_key)
        return self._post(RetractionReceipt, "/v1/retractions", request)

    def inspect(self, midi: bytes) -> InspectResponse:
        """Return what a file holds."""
        request = InspectRequest(midi_base64=base64.b64encode(midi).decode())
        return self._post(InspectResponse, "/v1/inspect", request)

    def preview(self, midi: bytes, *, start_s: float = 0.0, end_s: float | None = None) -> bytes:
        """Return a stretch of a file as WAV."""
        request = PreviewRequest(midi_base64=base64.b64encode(midi).decode(), start_s=start_s, end_s=end_s)
        return self._send("POST", "/v1/preview", request).content

    def sound(self, audio_url: str) -> bytes:
        """Return the WAV that an answer's `audio_url` names."""
        return self._send("GET", audio_url).content

    def models(self) -> ModelsResponse:
        """Return the models there are."""
        return _read(ModelsResponse, self._send("GET", "/v1/models"))

    def leaderboard_page(self, *, study: str | None = None) -> str:
        """Return what was judged so far, in one study or pool or in all, as an HTML page."""
        query = f"?{urlencode({'study': study})}" if study else ""
        return self._send("GET", f"/v1/leaderboard/page{query}").text

    def is_ready(self) -> bool:
        """Return whether the service can decode a token now; raises ServiceError when waiting will not help."""
        try:
            response = self._http.get("/readyz")
        except httpx.TransportError:
            return False
        # Serve itself answers 404 in plain text until the graph is up; a problem document is the graph's own word.
        if response.status_code == 404 and response.headers.get("content-type") == PROBLEM_TYPE:
            raise _failure(response)
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

    def _post(self, kind: type[Answer], path: str, request: BaseModel) -> Answer:
        return _read(kind, self._send("POST", path, request))

    def _send(self, method: str, path: str, request: BaseModel | None = None) -> httpx.Response:
        headers = self._headers()
        content = None
        if request is not None:
            content = request.model_dump_json().encode()
            headers["Content-Type"] = "application/json"
        for attempt in range(1, self._attempts + 1):
            try:
                response = self._http.request(method, path, content=content, headers=headers)
                self._has_answered = True
                if response.status_code < 400:
                    return response
                raise _Refused(response)
            except (_Refused, httpx.TransportError) as error:
                self._sleep(self._pause_s(attempt, error))
        raise AssertionError("the last attempt returns or raises")

    def _headers(self) -> dict[str, str]:
        return {"Idempotency-Key": secrets.token_hex(16)}

    def _pause_s(self, attempt: int, error: Exception) -> float:
        """Return how long to wait before asking again; raise ServiceError where that would not help."""
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            detail = f"{self.base_url} took too long to answer; ask for less, or try again later"
            raise ServiceError(detail, status=504) from error
        if isinstance(error, httpx.TransportError):
            attempts = self._attempts if self._has_answered else min(self._attempts, _CONNECTING_ATTEMPTS)
            if attempt >= attempts:
                detail = f"{self.base_url} does not answer; start the service with `harmonixr up`"
                raise ServiceError(detail, status=0) from error
            return _pause_s(attempt, None)
        response = error.response if isinstance(error, _Refused) else None
        failure = _failure(response) if response is not None else error
        if attempt >= self._attempts or not (isinstance(failure, ServiceError) and _may_help(failure)):
            raise failure from None
        return _pause_s(attempt, response.headers.get("Retry-After") if response is not None else None)


class _Refused(Exception):
    """An answer that is an error."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def _may_help(failure: ServiceError) -> bool:
    """Return whether asking again may help: the service is busy, or what stands in front of it lost a replica."""
    return failure.status in RETRIED or (failure.status >= 500 and failure.problem is None)


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


def _pause_s(attempt: int, retry_after: str | None) -> float:
    """Return how long to wait: what the service says, else twice as long each time, spread so as not to march."""
    if retry_after is not None and retry_after.strip().isdigit():
        return min(float(retry_after), _MAX_PAUSE_S)
    pause: float = min(_FIRST_PAUSE_S * 2 ** (attempt - 1), _MAX_PAUSE_S) * random.uniform(0.5, 1.0)
    return pause


def _failure(response: httpx.Response) -> ServiceError:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        detail = f"the service answered with status {response.status_code}; try again, or look at its log"
        return ServiceError(detail, status=response.status_code)
    return ServiceError(problem.detail, status=response.status_code, problem=problem)


def _read(kind: type[Answer], response: httpx.Response) -> Answer:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        detail = "the service speaks another version of the protocol than this client; update both"
        raise ServiceError(detail, status=502) from error


def _event_name(event: InfillEvent) -> Hashable:
    """Return what tells an event apart from the others of its stream."""
    if isinstance(event, InfillBar):
        return "bar", event.seed, event.bar, event.track
    return (type(event), event.index if isinstance(event, CandidateView) else 0)
