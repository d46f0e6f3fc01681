"""The service's own errors, and the conversion of any error to an RFC 9457 problem.

HarmonixrError
└── ServingError
    ├── BadRequest         400  the body is not JSON
    ├── Unauthorized       401  the API key is missing or wrong
    ├── NoRewardModel      409  best_of without a reward model in service
    ├── TooLarge           413  the body is larger than the limit
    ├── UnsupportedMedia   415  neither JSON nor a form
    ├── KeyReused          422  an earlier, different request used this Idempotency-Key
    ├── Overloaded         429  too many requests wait already
    ├── Unavailable        503  a part of the service is down for a moment
    └── DeadlineExceeded   504  the request took too long

Of the library's own errors EngineBusy is 429, DeadlinePassed 504, FillCancelled and CheckpointError 503, the rest 422.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from harmonixr_model.errors import CheckpointError, DeadlinePassed, EngineBusy, FillCancelled, HarmonixrError
from harmonixr_platform.schemas import Problem

PROBLEM_TYPE = "application/problem+json"


class ServingError(HarmonixrError):
    """An error of the service. `retry_after_s` is when a retry may succeed."""

    status: ClassVar[int] = 500
    retry_after_s: int | None = None


class BadRequest(ServingError):
    """The body cannot be read."""

    status = 400


class Unauthorized(ServingError):
    """The API key is missing or wrong."""

    status = 401


class NoRewardModel(ServingError):
    """No reward model is in service."""

    status = 409


class TooLarge(ServingError):
    """The body is larger than the limit."""

    status = 413


class UnsupportedMedia(ServingError):
    """The route does not read this content type."""

    status = 415


class KeyReused(ServingError):
    """An earlier, different request used this Idempotency-Key."""

    status = 422


class Overloaded(ServingError):
    """Too many requests wait already."""

    status = 429
    retry_after_s = 3


class Unavailable(ServingError):
    """A part of the service is down for a moment."""

    status = 503
    retry_after_s = 3


class DeadlineExceeded(ServingError):
    """The request took longer than its deadline."""

    status = 504


_LIBRARY_STATUS: dict[type[HarmonixrError], int] = {
    CheckpointError: 503,
    EngineBusy: 429,
    DeadlinePassed: 504,
    FillCancelled: 503,
}


def too_large(max_midi_bytes: int) -> TooLarge:
    """Return the error of a MIDI file over the limit."""
    return TooLarge(f"the MIDI file is larger than {max_midi_bytes // 2**20} MiB, the limit of this service")


def status_of(error: HarmonixrError) -> int:
    """Return the HTTP status of an error."""
    known = getattr(error, "status", None)
    if isinstance(known, int):
        return known
    # All other errors of the library are about the user's music or controls.
    return next((status for kind, status in _LIBRARY_STATUS.items() if isinstance(error, kind)), 422)


def retry_after_s(error: HarmonixrError) -> int | None:
    """Return after how many seconds a retry may succeed."""
    given = getattr(error, "retry_after_s", None)
    return given if isinstance(given, int) else (3 if status_of(error) in (429, 503) else None)


def problem_of(error: HarmonixrError) -> Problem:
    """Return the error as a problem; its type is the name of its class."""
    status = status_of(error)
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()
    return Problem(
        type=f"urn:harmonixr:problem:{name}", title=HTTPStatus(status).phrase, status=status, detail=str(error)
    )


def validation_problem(errors: Sequence[Any]) -> Problem:
    """Return pydantic's errors as one problem that lists the fields."""
    fields = tuple(
        {
            "field": ".".join(str(part) for part in error["loc"] if part != "body") or "body",
            "message": str(error["msg"]).removeprefix("Value error, "),
        }
        for error in errors
    )
    first = fields[0]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return Problem(
        type="urn:harmonixr:problem:validation",
        title=HTTPStatus(422).phrase,
        status=422,
        detail=f"{first['field']}: {first['message']}{more}",
        errors=fields,
    )
