"""When a request to the service is sent again, and the error when it is not."""

from __future__ import annotations

import random
from collections.abc import Callable

import httpx
from pydantic import ValidationError

from harmonixr_platform.client.errors import ServiceError
from harmonixr_platform.schemas import Problem

RETRIED = (429, 503)
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 15.0
# A service that never responded is probably not running: report that soon.
_CONNECTING_ATTEMPTS = 4


class Refused(Exception):
    """A response with an error status."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class Retries:
    """Waits between the attempts of a request. `has_connected` is whether the service has responded before."""

    def __init__(self, base_url: str, *, attempts: int, sleep: Callable[[float], None]) -> None:
        self._base_url = base_url
        self._attempts = attempts
        self._sleep = sleep
        self.has_connected = False

    def attempts(self) -> range:
        """Return the numbers of the attempts of one request."""
        return range(1, self._attempts + 1)

    def wait(self, attempt: int, error: Exception) -> None:
        """Wait before the next attempt; raise ServiceError after the last one or when a retry cannot help."""
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            detail = f"{self._base_url} took too long to respond; request less, or try again later"
            raise ServiceError(detail, status=504) from error
        if isinstance(error, httpx.TransportError):
            if attempt >= (self._attempts if self.has_connected else min(self._attempts, _CONNECTING_ATTEMPTS)):
                detail = f"{self._base_url} does not answer; start the service with `harmonixr up`"
                raise ServiceError(detail, status=0) from error
            self._sleep(_pause_s(attempt, None))
            return
        failure = failure_of(error.response) if isinstance(error, Refused) else error
        if attempt >= self._attempts or not (isinstance(failure, ServiceError) and _may_help(failure)):
            raise failure from None
        retry_after = error.response.headers.get("Retry-After") if isinstance(error, Refused) else None
        self._sleep(_pause_s(attempt, retry_after))


def failure_of(response: httpx.Response) -> ServiceError:
    """Return the error of a response with an error status."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        detail = f"the service responded with status {response.status_code}; try again, or read its log"
        return ServiceError(detail, status=response.status_code)
    return ServiceError(problem.detail, status=response.status_code, problem=problem)


def _may_help(failure: ServiceError) -> bool:
    """Return whether a retry may help: the service is busy, or the proxy before it lost a replica."""
    return failure.status in RETRIED or (failure.status >= 500 and failure.problem is None)


def _pause_s(attempt: int, retry_after: str | None) -> float:
    """Return the seconds of Retry-After, else an exponential backoff with jitter."""
    if retry_after is not None and retry_after.strip().isdigit():
        return min(float(retry_after), _MAX_PAUSE_S)
    pause: float = min(_FIRST_PAUSE_S * 2 ** (attempt - 1), _MAX_PAUSE_S) * random.uniform(0.5, 1.0)
    return pause
