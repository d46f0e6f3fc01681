"""The HTTP routes of the service, its OpenAPI page and its errors. Knows neither Ray nor how anything is made.

Declared inside a function and therefore without postponed annotations: FastAPI could not resolve them.
"""

import base64
import logging
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from harmonixr_model import __version__
from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.feedback.reports.html_report import report_html
from harmonixr_platform.schemas import (
    ComparisonRequest,
    ComparisonView,
    ErasureReceipt,
    ErasureRequest,
    InfillOptions,
    InfillRequest,
    InfillResponse,
    InspectRequest,
    InspectResponse,
    JudgmentReceipt,
    JudgmentRequest,
    ModelsResponse,
    PreviewRequest,
    Problem,
    RetractionReceipt,
    RetractionRequest,
)
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.errors import (
    PROBLEM_TYPE,
    BadRequest,
    problem_of,
    retry_after_s,
    validation_problem,
)
from harmonixr_platform.serving.http.drain_latch import DrainLatch
from harmonixr_platform.serving.http.request_guard import Gate, Metrics, caller_name, seconds_since_arrival
from harmonixr_platform.serving.http.sse import SSE_TYPE, event_stream
from harmonixr_platform.serving.infill.service import Caller, Service, Terms

_log = logging.getLogger(__name__)

DESCRIPTION = """Fill the gap a musician leaves in a MIDI file, and ask which of two fills is better.

Bars, beats and tracks count from 1 and ranges include both ends. Every answer names model version and seed: the same
seed and version give the same fill. Errors are `application/problem+json` (RFC 9457) and say what would work."""
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in (400, 404, 413, 415, 422, 429, 503, 504)
}
_INFILL_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/InfillRequest"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "options"],
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "a standard MIDI file"},
                    "options": {"type": "string", "description": "InfillOptions as JSON"},
                },
            }
        },
    },
}


def make_api(
    service: Service, args: ServingArgs, *, api_keys: Sequence[str] = (), door: DrainLatch | None = None
) -> FastAPI:
    """Return the application that serves `service` to whoever comes in by the door."""
    metrics = Metrics()
    # No CDN: FastAPI's own page would fetch its scripts from one.
    api = FastAPI(title="Harmonixr", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    api.add_middleware(
        Gate, metrics=metrics, door=door or DrainLatch(), max_midi_bytes=args.max_midi_bytes, api_keys=list(api_keys)
    )
    _add_errors(api)
    _add_music(api, service, metrics)
    _add_feedback(api, service, metrics)
    _add_watching(api, service, metrics)
    _add_schemas(api)
    return api


def _add_music(api: FastAPI, service: Service, metrics: Metrics) -> None:
    @api.post(
        "/v1/infill",
        response_model=InfillResponse,
        responses={**_PROBLEMS, 200: {"content": {"audio/midi": {}, SSE_TYPE: {}}, "description": "The fills"}},
        openapi_extra={"requestBody": _INFILL_BODY},
        summary="Fill a gap",
    )
    async def infill(
        request: Request,
        accept: Annotated[
            str, Header(description=f"audio/midi: the first candidate as a file; {SSE_TYPE}: events as it is made")
        ] = "*/*",
        idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
        x_harmonixr_session: Annotated[
            str, Header(max_length=255, description="names the caller where one address has many")
        ] = "",
        x_harmonixr_timeout_s: Annotated[
            float | None, Header(gt=0, description="answer within so many seconds, or with 504")
        ] = None,
    ) -> Response:
        midi, options = await _read_infill(request, service)
        terms = Terms(
            key=idempotency_key,
            caller=Caller(caller_name(request.scope), x_harmonixr_session),
            timeout_s=x_harmonixr_timeout_s,
            ingress_s=seconds_since_arrival(request.scope),
        )
        if SSE_TYPE in accept:
            events = service.infill_events(midi, options, terms)
            return await event_stream(
                events, problem=lambda error: _problem_of_any(error, request.url.path), heard=metrics.hear
            )
        answer = await service.infill(midi, options, terms)
        for candidate in answer.candidates:
            metrics.hear(candidate)
        metrics.hear(answer)
        headers = {"X-Harmonixr-Model-Version": answer.model_version, "X-Harmonixr-Precision": answer.precision}
        if "audio/midi" in accept:
            best = answer.candidates[0]
            headers |= {
                "X-Harmonixr-Seed": str(best.seed),
                "Content-Disposition": 'attachment; filename="filled.mid"',
            }
            return Response(base64.b64decode(best.midi_base64), media_type="audio/midi", headers=headers)
        return _json(answer, headers=headers | {"X-Harmonixr-Seed": str(answer.seed)})

    @api.post("/v1/inspect", response_model=InspectResponse, responses=_PROBLEMS, summary="See what a file holds")
    async def inspect(body: InspectRequest) -> Response:
        return _json(await service.inspect(body.midi_base64))

    @api.post(
        "/v1/preview",
        response_class=Response,
        responses={**_PROBLEMS, 200: {"content": {"audio/wav": {}}, "description": "The sound"}},
        summary="Hear a stretch of a file",
    )
    async def preview(body: PreviewRequest) -> Response:
        return _sound(await service.preview(body.midi_base64, body.start_s, body.end_s))

    @api.get(
        "/v1/audio/{token}",
        response_class=Response,
        responses={**_PROBLEMS, 200: {"content": {"audio/wav": {}}, "description": "The sound"}},
        summary="Hear a fill in its context",
    )
    async def audio(token: str) -> Response:
        return _sound(await service.sound(token))

    @api.get("/v1/models", response_model=ModelsResponse, responses=_PROBLEMS, summary="List the models")
    async def models() -> Response:
        return _json(await service.models())


def _add_feedback(api: FastAPI, service: Service, metrics: Metrics) -> None:
    @api.post(
        "/v1/comparisons",
        response_model=ComparisonView,
        responses=_PROBLEMS,
        status_code=201,
        summary="Ask for two blind fills",
    )
    async def compare(body: ComparisonRequest) -> Response:
        return _json(await service.compare(body), status=201)

    @api.post(
        "/v1/judgments",
        response_model=JudgmentReceipt,
        responses=_PROBLEMS,
        status_code=201,
        summary="Say which fill is better",
    )
    async def judge(body: JudgmentRequest) -> Response:
        receipt = await service.judge(body)
        metrics.judgments.inc(0 if receipt.duplicate else 1)
        return _json(receipt, status=201)

    @api.post(
        "/v1/retractions",
        response_model=RetractionReceipt,
        responses=_PROBLEMS,
        status_code=201,
        summary="Take a judgment back",
    )
    async def retract(body: RetractionRequest) -> Response:
        return _json(await service.retract(body), status=201)

    @api.post(
        "/v1/erasures",
        response_model=ErasureReceipt,
        responses=_PROBLEMS,
        status_code=202,
        summary="Erase a rater",
    )
    async def erase(body: ErasureRequest) -> Response:
        return _json(await service.erase(body), status=202)

    @api.get("/v1/leaderboard", responses=_PROBLEMS, summary="Models by what was judged")
    async def leaderboard(study: Annotated[str | None, Query(max_length=128)] = None) -> dict[str, Any]:
        return await service.leaderboard(study)

    @api.get("/v1/leaderboard/page", responses=_PROBLEMS, response_class=HTMLResponse, summary="The same to look at")
    async def leaderboard_page(study: Annotated[str | None, Query(max_length=128)] = None) -> HTMLResponse:
        return HTMLResponse(report_html(await service.leaderboard(study)))


def _add_watching(api: FastAPI, service: Service, metrics: Metrics) -> None:
    @api.get("/healthz", summary="The process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/readyz", responses=_PROBLEMS, summary="A token can be decoded")
    async def readyz() -> dict[str, str]:
        info = await service.probe()
        return {"status": "ready", "model_version": info.version}

    @api.get("/metrics", response_class=Response, summary="Prometheus metrics")
    async def prometheus() -> Response:
        await metrics.backlog.refresh(service.backlog)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @api.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        from harmonixr_platform.serving.http.docs_page import docs_page

        return Response(docs_page(api.openapi()), media_type="text/html")


def _add_schemas(api: FastAPI) -> None:
    described = api.openapi

    def with_problems() -> dict[str, Any]:
        document = described()
        document["components"]["schemas"].setdefault("Problem", Problem.model_json_schema())
        return document

    api.openapi = with_problems  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(HarmonixrError)
    async def ours(request: Request, error: HarmonixrError) -> Response:
        wait_s = retry_after_s(error)
        return _problem(problem_of(error), headers={"Retry-After": str(wait_s)} if wait_s is not None else {})

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(error.errors())

    @api.exception_handler(ValidationError)
    async def invalid_options(request: Request, error: ValidationError) -> Response:
        return _invalid(error.errors(include_url=False, include_input=False))

    @api.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> Response:
        detail = {
            404: f"there is nothing at {request.url.path}; /docs lists what there is",
            405: f"{request.method} is not what {request.url.path} takes; /docs says what it does",
        }.get(error.status_code, str(error.detail))
        phrase = HTTPStatus(error.status_code).phrase
        problem = Problem(title=phrase, status=error.status_code, detail=detail)
        return _problem(problem, headers=dict(error.headers or {}))

    @api.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        return _problem(_problem_of_any(error, request.url.path))


def _problem_of_any(error: Exception, path: str) -> Problem:
    if isinstance(error, HarmonixrError):
        return problem_of(error)
    # The number joins what a user reports with the log; the trace stays in the log.
    number = secrets.token_hex(4)
    _log.error("request %s failed", number, exc_info=error, extra={"path": path})
    return Problem(
        title=HTTPStatus(500).phrase,
        status=500,
        detail=f"this is our fault, not yours; when you report it, name error {number}",
    )


async def _read_infill(request: Request, service: Service) -> tuple[bytes, InfillOptions]:
    if request.headers.get("content-type", "").startswith("multipart/"):
        async with request.form(max_files=1, max_fields=4) as form:
            file, options = form.get("file"), form.get("options")
            if not isinstance(file, UploadFile):
                raise BadRequest(
                    "the form has no file; send the MIDI file as `file`, as curl does with -F file=@song.mid"
                )
            if not isinstance(options, str):
                raise BadRequest('the form has no options; send JSON such as {"region": {"bars": "9-12"}} as `options`')
            return await file.read(), InfillOptions.model_validate_json(options)
    body = InfillRequest.model_validate_json(await request.body())
    options_only = {name: getattr(body, name) for name in InfillOptions.model_fields}
    return service.decode(body.midi_base64), InfillOptions(**options_only)


def _json(model: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(), status, headers=headers, media_type="application/json")


def _sound(wav: bytes) -> Response:
    return Response(wav, media_type="audio/wav", headers={"Cache-Control": "private, max-age=3600"})


def _problem(problem: Problem, *, headers: dict[str, str] | None = None) -> Response:
    return Response(problem.model_dump_json(), problem.status, headers=headers, media_type=PROBLEM_TYPE)


def _invalid(errors: Sequence[Any]) -> Response:
    if errors and errors[0]["type"] == "json_invalid":
        reason = errors[0].get("ctx", {}).get("error", errors[0]["msg"])
        return _problem(problem_of(BadRequest(f"the body is not JSON: {reason}")))
    return _problem(validation_problem(errors))
