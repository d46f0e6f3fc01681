"""What the service answers when it cannot: errors of its own, and any error as an RFC 9457 problem.

HarmonixrError
└── ServingError
    ├── BadRequest         400  the body is not JSON
    ├── Unauthorized       401  an API key is needed
    ├── NoRewardModel      409  best_of was asked for and no reward model is in service
    ├── TooLarge           413  more bytes than are read
    ├── UnsupportedMedia   415  neither JSON nor a form
    ├── KeyReused          422  an Idempotency-Key came again with another request
    ├── Overloaded         429  too many requests wait already
    ├── Unavailable        503  a part of the service is away for a moment
    └── DeadlineExceeded   504  it took too long

Of the library's own errors EngineBusy is 429, DeadlinePassed 504, FillCancelled and CheckpointError 503, the rest 422.
Knows nothing of routes.
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
    """The service cannot answer. `retry_after_s` says when asking again may help."""

    status: ClassVar[int] = 500
    retry_after_s: int | None = None


class BadRequest(ServingError):
    """The body cannot be read."""

    status = 400


class Unauthorized(ServingError):
    """An API key is missing or wrong."""

    status = 401


class NoRewardModel(ServingError):
    """No reward model is in service."""

    status = 409


class TooLarge(ServingError):
    """More bytes than are read."""

    status = 413


class UnsupportedMedia(ServingError):
    """A content type that no route reads."""

    status = 415


class KeyReused(ServingError):
    """An Idempotency-Key came again with another request."""

    status = 422


class Overloaded(ServingError):
    """Too many requests wait already."""

    status = 429
    retry_after_s = 3


class Unavailable(ServingError):
    """A part of the service is away for a moment."""

    status = 503
    retry_after_s = 3


class DeadlineExceeded(ServingError):
    """It took longer than the deadline."""

    status = 504


_OF_THE_LIBRARY: dict[type[HarmonixrError], int] = {
    CheckpointError: 503,
    EngineBusy: 429,
    DeadlinePassed: 504,
    FillCancelled: 503,
}


def status_of(error: HarmonixrError) -> int:
    """Return the HTTP status that says this error best."""
    known = getattr(error, "status", None)
    if isinstance(known, int):
        return known
    # The user's music or wishes are at fault, except in what these say.
    return next((status for kind, status in _OF_THE_LIBRARY.items() if isinstance(error, kind)), 422)


def retry_after_s(error: HarmonixrError) -> int | None:
    """Return after how many seconds asking again may help."""
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
