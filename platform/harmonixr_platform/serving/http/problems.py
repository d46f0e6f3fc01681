"""Errors of any kind as RFC 9457 responses."""

import logging
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.schemas import Problem
from harmonixr_platform.serving.errors import (
    PROBLEM_TYPE,
    BadRequest,
    problem_of,
    retry_after_s,
    validation_problem,
)

_log = logging.getLogger(__name__)


def error_response(error: HarmonixrError) -> Response:
    """Return the response of one of our own errors."""
    problem, wait_s = problem_of(error), retry_after_s(error)
    headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return _response(problem, headers=headers)


def any_problem(error: Exception, path: str) -> Problem:
    """Return any error as a problem; an unexpected one gets a number, and its traceback goes into the log."""
    if isinstance(error, HarmonixrError):
        return problem_of(error)
    number = secrets.token_hex(4)
    _log.error("request %s failed", number, exc_info=error, extra={"path": path})
    return Problem(
        title=HTTPStatus(500).phrase,
        status=500,
        detail=f"this is a fault of the service, not of your request; when you report it, name error {number}",
    )


def add_error_handlers(api: FastAPI) -> None:
    """Respond to every error of a route with a problem."""

    @api.exception_handler(HarmonixrError)
    async def own_error(request: Request, error: HarmonixrError) -> Response:
        return error_response(error)

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(error.errors())

    @api.exception_handler(ValidationError)
    async def invalid_options(request: Request, error: ValidationError) -> Response:
        return _invalid(error.errors(include_url=False, include_input=False))

    @api.exception_handler(HTTPException)
    async def framework_error(request: Request, error: HTTPException) -> Response:
        detail = {
            404: f"there is nothing at {request.url.path}; /docs lists all paths",
            405: f"{request.url.path} does not take {request.method}; /docs lists its methods",
        }.get(error.status_code, str(error.detail))
        problem = Problem(title=HTTPStatus(error.status_code).phrase, status=error.status_code, detail=detail)
        return _response(problem, headers=dict(error.headers or {}))

    @api.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return _response(any_problem(error, request.url.path))


def _invalid(errors: Sequence[Any]) -> Response:
    if errors and errors[0]["type"] == "json_invalid":
        reason = errors[0].get("ctx", {}).get("error", errors[0]["msg"])
        return error_response(BadRequest(f"the body is not JSON: {reason}"))
    return _response(validation_problem(errors))


def _response(problem: Problem, *, headers: dict[str, str] | None = None) -> Response:
    return Response(problem.model_dump_json(), problem.status, headers=headers, media_type=PROBLEM_TYPE)
