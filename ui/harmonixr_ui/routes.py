"""The page's own HTTP routes: sound, previews, blind pairs and judgments, passed on to the service.

The browser talks to this server only and never learns the address of the service. This server stores nothing.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ValidationError

from harmonixr_platform.client import ServiceError
from harmonixr_platform.schemas import (
    ComparisonRequest,
    ComparisonView,
    JudgmentRequest,
    PlacedNote,
    PreviewRequest,
    RetractionRequest,
    SideView,
)
from harmonixr_ui.api import Api, sentence
from harmonixr_ui.practice import practice_pair

Body = TypeVar("Body", bound=BaseModel)

ASSETS = Path(__file__).parent / "assets"
_KINDS = {".js": "text/javascript", ".css": "text/css"}
_TOKEN = re.compile(r"[A-Za-z0-9_.~-]{1,512}")
_AUDIO_PATH = re.compile(r"(?:https?://[^/]+)?/v1/audio/([A-Za-z0-9_.~-]{1,512})")
_BLIND = {
    "comparison_id", "token", "start_s", "end_s", "audio_start_s", "audio_end_s", "min_heard", "progress", "region",
}  # fmt: skip
# The largest file that the service accepts, as base64, and room for the rest of the request.
MAX_BODY_BYTES = 12 * 2**20


def make_router(api: Api) -> APIRouter:
    """Return the routes, which call `api`."""
    router = APIRouter(prefix="/hx", include_in_schema=False)

    @router.get("/assets/{name}")
    async def asset(name: str) -> FileResponse:
        path = ASSETS / name
        if path.parent != ASSETS or path.suffix not in _KINDS or not path.is_file():
            raise HTTPException(404, "no such asset")
        return FileResponse(path, media_type=_KINDS[path.suffix], headers={"Cache-Control": "no-cache"})

    @router.get("/audio/{token}")
    async def audio(token: str) -> Response:
        if _TOKEN.fullmatch(token) is None:
            raise HTTPException(404, "no such sound")
        return await _respond(_wav(api.sound(token)))

    @router.get("/practice")
    async def practice() -> Response:
        return await _respond(_practice(api))

    def post(path: str, kind: type[Body], make: Callable[[Body], Coroutine[Any, Any, Response]]) -> None:
        async def route(request: Request) -> Response:
            return await _respond(make(await _read(kind, request)))

        router.add_api_route(path, route, methods=["POST"])

    async def judge(judgment: JudgmentRequest) -> Response:
        receipt = await api.judge(judgment)
        return JSONResponse({"judgment_id": receipt.judgment_id, "stored": receipt.stored}, 201)

    async def retract(retraction: RetractionRequest) -> Response:
        receipt = await api.retract(retraction)
        return JSONResponse({"judgment_id": receipt.judgment_id, "retracted": receipt.retracted}, 201)

    post("/preview", PreviewRequest, lambda request: _wav(api.preview(request)))
    post("/comparisons", ComparisonRequest, lambda request: _pair(api, request))
    post("/judgments", JudgmentRequest, judge)
    post("/retractions", RetractionRequest, retract)
    return router


async def _pair(api: Api, request: ComparisonRequest) -> Response:
    view = await api.compare(request)
    blind = blind_view(view, with_files=request.infill is not None)
    return JSONResponse(blind | {"song": await _song_around(api, view)})


async def _practice(api: Api) -> Response:
    pair = await asyncio.to_thread(practice_pair)
    song = await _song_without(api, pair["a"]["midi_base64"], pair["a"]["notes"])
    return JSONResponse(pair | {"song": song})


async def _wav(sound: Awaitable[bytes]) -> Response:
    return Response(await sound, media_type="audio/wav", headers={"Cache-Control": "private, max-age=600"})


def blind_view(view: ComparisonView, *, with_files: bool) -> dict[str, Any]:
    """Return the part of a pair that the page may have before the judgment; `with_files` for the user's own gap."""
    shown = view.model_dump(mode="json", include=_BLIND)
    return shown | {"a": _side(view.a, with_file=with_files), "b": _side(view.b, with_file=with_files)}


async def _song_around(api: Api, view: ComparisonView) -> dict[str, Any]:
    """Return the song without its gap, long enough for both fills: a continuation is after the context's end."""
    longer = max(view.a, view.b, key=lambda side: max((n.onset_tick + n.duration_ticks for n in side.notes), default=0))
    return await _song_without(api, longer.midi_base64, [roll_note(note) for note in longer.notes])


async def _song_without(api: Api, midi_base64: str, fill: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    song = await api.inspect(midi_base64)
    filled = {(note["track"], note["onset_tick"], note["pitch"]) for note in fill}
    around = tuple(n for n in song.notes if (n.track, n.onset_tick, n.pitch) not in filled)
    return song.model_copy(update={"notes": around}).model_dump(mode="json")


def _side(side: SideView, *, with_file: bool) -> dict[str, Any]:
    shown = {"audio": audio_path(side.audio_url), "notes": [roll_note(note) for note in side.notes]}
    return shown | ({"midi_base64": side.midi_base64} if with_file else {})


def roll_note(note: PlacedNote) -> dict[str, Any]:
    """Return the fields of a note that the piano roll draws."""
    return note.model_dump(include={"track", "onset_tick", "duration_ticks", "onset_s", "duration_s", "pitch"})


def audio_path(url: str) -> str:
    """Return the path on this server for a sound's URL on the service."""
    found = _AUDIO_PATH.fullmatch(url)
    if found is None:
        raise ServiceError("the service gave a sound URL that this page cannot fetch; update both", status=502)
    return f"hx/audio/{found[1]}"


async def _read(kind: type[Body], request: Request) -> Body:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, "The file is larger than 8 MiB, the limit; cut it into shorter songs.")
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HTTPException(422, f"{where}: {first['msg']}") from error


async def _respond(response: Awaitable[Response]) -> Response:
    """Return the response, or the service's error as one sentence."""
    try:
        return await response
    except ServiceError as error:
        # The client gives status 0 where the service did not respond.
        return JSONResponse({"detail": sentence(error)}, status_code=error.status or 503)
