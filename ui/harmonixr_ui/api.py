"""The one seam to the service: HTTP requests as methods, its problems as one sentence. Knows nothing of pages."""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from harmonixr_platform.schemas import InfillRequest, InfillResponse, InspectResponse, Problem

Answer = TypeVar("Answer", bound=BaseModel)


class ApiError(Exception):
    """The service refused or did not answer: `detail` is a sentence to show, `status` the HTTP status."""

    def __init__(self, detail: str, *, status: int) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class Api:
    """The service at `base_url`. Every method raises ApiError when there is no good answer."""

    def __init__(
        self, base_url: str, *, transport: httpx.AsyncBaseTransport | None = None, timeout_s: float = 120
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._transport = transport
        self._timeout = httpx.Timeout(timeout_s, connect=5)

    async def inspect(self, midi_base64: str) -> InspectResponse:
        """Return bars, tracks and notes of a MIDI file."""
        response = await self.send("POST", "/v1/inspect", json={"midi_base64": midi_base64})
        return _read(InspectResponse, response)

    async def infill(self, request: InfillRequest) -> InfillResponse:
        """Return fills of a gap."""
        response = await self.send("POST", "/v1/infill", json=request.model_dump(mode="json"))
        return _read(InfillResponse, response)

    async def send(
        self, method: str, path: str, *, json: Any = None, content: bytes | None = None, key: str | None = None
    ) -> httpx.Response:
        """Send one request and return the answer, which has a status below 400."""
        headers = {"Idempotency-Key": key} if key else {}
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with httpx.AsyncClient(
                base_url=self.base_url, transport=self._transport, timeout=self._timeout
            ) as http:
                response = await http.request(method, path, json=json, content=content, headers=headers)
        except httpx.TimeoutException as error:
            raise ApiError("The music service took too long to answer; try again in a moment.", status=504) from error
        except httpx.TransportError as error:
            detail = f"The music service at {self.base_url} does not answer; start it, then try again."
            raise ApiError(detail, status=503) from error
        if response.status_code >= 400:
            raise ApiError(problem_sentence(response), status=response.status_code)
        return response


def problem_sentence(response: httpx.Response) -> str:
    """Return what went wrong as one sentence: the problem's detail where the answer holds one."""
    try:
        problem = Problem.model_validate(response.json())
    except (ValueError, ValidationError):
        return f"The music service answered with status {response.status_code}; try again in a moment."
    said = problem.detail or problem.title
    return said[:1].upper() + said[1:]


def _read(kind: type[Answer], response: httpx.Response) -> Answer:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        detail = "The music service speaks another version of the protocol than this page; update both."
        raise ApiError(detail, status=502) from error
