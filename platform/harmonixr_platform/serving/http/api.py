"""The HTTP routes of the service and its OpenAPI document.

Without postponed annotations: FastAPI could not resolve those of routes that a function declares.
"""

import base64
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse

from harmonixr_model import __version__
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
from harmonixr_platform.serving.errors import PROBLEM_TYPE, BadRequest
from harmonixr_platform.serving.http.drain_latch import DrainLatch
from harmonixr_platform.serving.http.metrics import Metrics
from harmonixr_platform.serving.http.problems import add_error_handlers, any_problem
from harmonixr_platform.serving.http.request_guard import RequestGuard, caller_name, received_at
from harmonixr_platform.serving.http.sse import SSE_TYPE, event_stream
from harmonixr_platform.serving.infill.service import Service
from harmonixr_platform.serving.transport.messages import FillRequest

DESCRIPTION = """Fill a gap in a MIDI file, and judge which of two fills is better.

Bars, beats and tracks count from 1 and ranges include both ends. Every response names model version and seed: the same
seed and version give the same fill. Errors are `application/problem+json` (RFC 9457) and name the remedy."""
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in (400, 404, 413, 415, 422, 429, 503, 504)
}
_SOUND: dict[str, Any] = {
    "response_class": Response,
    "responses": {**_PROBLEMS, 200: {"content": {"audio/wav": {}}, "description": "The sound"}},
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
    service: Service, args: ServingArgs, *, api_keys: Sequence[str] = (), latch: DrainLatch | None = None
) -> FastAPI:
    """Return the HTTP application of `service`; `latch` counts its requests."""
    metrics = Metrics()
    # No CDN: FastAPI's own page would fetch its scripts from one.
    api = FastAPI(title="Harmonixr", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    api.add_middleware(
        RequestGuard,
        metrics=metrics,
        latch=latch or DrainLatch(),
        max_midi_bytes=args.max_midi_bytes,
        api_keys=list(api_keys),
    )
    add_error_handlers(api)
    _add_infill(api, service, metrics, args)
    _add_music(api, service)
    _add_feedback(api, service, metrics)
    _add_monitoring(api, service, metrics)
    _add_schemas(api)
    return api


def _add_infill(api: FastAPI, service: Service, metrics: Metrics, args: ServingArgs) -> None:
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
            str, Header(max_length=255, description="identifies the caller among several with one address")
        ] = "",
        x_harmonixr_timeout_s: Annotated[
            float | None, Header(gt=0, description="a shorter deadline in seconds; after it the response is a 504")
        ] = None,
    ) -> Response:
        midi, options = await _read_infill(request, service)
        fill = FillRequest(
            midi,
            options,
            timeout_s=min(args.deadline_s, x_harmonixr_timeout_s or args.deadline_s),
            owner=caller_name(request.scope),
            session=x_harmonixr_session,
            key=idempotency_key,
            received=received_at(request.scope),
        )
        if SSE_TYPE in accept:
            path = request.url.path
            events = service.infill_events(fill)
            return await event_stream(events, problem=lambda error: any_problem(error, path), on_sent=metrics.count)
        response = await service.infill(fill)
        for candidate in response.candidates:
            metrics.count(candidate)
        metrics.count(response)
        headers = {"X-Harmonixr-Model-Version": response.model_version, "X-Harmonixr-Precision": response.precision}
        if "audio/midi" in accept:
            first = response.candidates[0]
            headers |= {
                "X-Harmonixr-Seed": str(first.seed),
                "Content-Disposition": 'attachment; filename="filled.mid"',
            }
            return Response(base64.b64decode(first.midi_base64), media_type="audio/midi", headers=headers)
        return _json(response, headers=headers | {"X-Harmonixr-Seed": str(response.seed)})


def _add_music(api: FastAPI, service: Service) -> None:
    async def inspect(body: InspectRequest) -> InspectResponse:
        return await service.inspect(body.midi_base64)

    _add_post(api, "/v1/inspect", inspect, InspectRequest, InspectResponse, "Describe a file", status=200)

    @api.post("/v1/preview", **_SOUND, summary="Render an excerpt of a file")
    async def preview(body: PreviewRequest) -> Response:
        return _sound(await service.preview(body.midi_base64, body.start_s, body.end_s))

    @api.get("/v1/audio/{token}", **_SOUND, summary="Render a fill in its context")
    async def audio(token: str) -> Response:
        return _sound(await service.sound(token))

    @api.get("/v1/models", response_model=ModelsResponse, responses=_PROBLEMS, summary="List the models")
    async def models() -> Response:
        return _json(await service.models())


def _add_feedback(api: FastAPI, service: Service, metrics: Metrics) -> None:
    async def judge(body: JudgmentRequest) -> JudgmentReceipt:
        receipt = await service.judge(body)
        metrics.judgments.inc(0 if receipt.duplicate else 1)
        return receipt

    retract, erase = service.retract, service.erase
    _add_post(api, "/v1/comparisons", service.compare, ComparisonRequest, ComparisonView, "Get two blind fills")
    _add_post(api, "/v1/judgments", judge, JudgmentRequest, JudgmentReceipt, "Judge which fill is better")
    _add_post(api, "/v1/retractions", retract, RetractionRequest, RetractionReceipt, "Retract a judgment")
    _add_post(api, "/v1/erasures", erase, ErasureRequest, ErasureReceipt, "Erase a rater", status=202)

    @api.get("/v1/leaderboard", responses=_PROBLEMS, summary="Rank the models by their judgments")
    async def leaderboard(study: Annotated[str | None, Query(max_length=128)] = None) -> dict[str, Any]:
        return await service.leaderboard(study)

    @api.get("/v1/leaderboard/page", responses=_PROBLEMS, response_class=HTMLResponse, summary="The same as a page")
    async def leaderboard_page(study: Annotated[str | None, Query(max_length=128)] = None) -> HTMLResponse:
        return HTMLResponse(report_html(await service.leaderboard(study)))


def _add_monitoring(api: FastAPI, service: Service, metrics: Metrics) -> None:
    @api.get("/healthz", summary="Whether the process responds")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/readyz", responses=_PROBLEMS, summary="Whether the model can decode a token")
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
    make_document = api.openapi

    def with_problems() -> dict[str, Any]:
        document = make_document()
        document["components"]["schemas"].setdefault("Problem", Problem.model_json_schema())
        return document

    api.openapi = with_problems  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def _add_post(
    api: FastAPI,
    path: str,
    handle: Callable[[Any], Awaitable[BaseModel]],
    request: type[BaseModel],
    response: type[BaseModel],
    summary: str,
    *,
    status: int = 201,
) -> None:
    """Add a route that reads `request`, calls `handle` and responds with its result as JSON."""

    async def route(body: request) -> Response:  # type: ignore[valid-type]  # FastAPI reads the annotation
        return _json(await handle(body), status=status)

    # The name becomes part of the operation id in the OpenAPI document.
    route.__name__ = handle.__name__
    api.post(path, response_model=response, responses=_PROBLEMS, status_code=status, summary=summary)(route)


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
    return service.unpack(InfillRequest.model_validate_json(await request.body()))


def _json(model: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(), status, headers=headers, media_type="application/json")


def _sound(wav: bytes) -> Response:
    return Response(wav, media_type="audio/wav", headers={"Cache-Control": "private, max-age=3600"})
