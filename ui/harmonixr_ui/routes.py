"""The page's own HTTP routes: sound, previews, blind pairs and votes, passed on to the service.

The browser talks to this server only; where the service is stays between the two. Nothing is kept here.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
# Base64 of the largest file the service takes, and room for the rest of the request.
MAX_BODY_BYTES = 12 * 2**20


def make_router(api: Api) -> APIRouter:
    """Return the routes, which ask `api`."""
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
        return await _answer(lambda: _wav(api.sound(token)))

    @router.post("/preview")
    async def preview(request: Request) -> Response:
        body = await _read(PreviewRequest, request)
        return await _answer(lambda: _wav(api.preview(body)))

    @router.post("/comparisons")
    async def comparison(request: Request) -> Response:
        body = await _read(ComparisonRequest, request)
        return await _answer(lambda: _pair(api, body))

    @router.post("/judgments")
    async def judgment(request: Request) -> Response:
        body = await _read(JudgmentRequest, request)

        async def record() -> Response:
            receipt = await api.judge(body)
            return JSONResponse({"judgment_id": receipt.judgment_id, "stored": receipt.stored}, 201)

        return await _answer(record)

    @router.post("/retractions")
    async def retraction(request: Request) -> Response:
        body = await _read(RetractionRequest, request)

        async def record() -> Response:
            receipt = await api.retract(body)
            return JSONResponse({"judgment_id": receipt.judgment_id, "retracted": receipt.retracted}, 201)

        return await _answer(record)

    @router.get("/practice")
    async def practice() -> Response:
        pair = await asyncio.to_thread(practice_pair)

        async def with_song() -> Response:
            return JSONResponse(pair | {"song": await _song_without(api, pair["a"]["midi_base64"], pair["a"]["notes"])})

        return await _answer(with_song)

    return router


async def _pair(api: Api, request: ComparisonRequest) -> Response:
    view = await api.compare(request)
    blind = blind_view(view, with_files=request.infill is not None)
    return JSONResponse(blind | {"song": await _song_around(api, view)})


async def _wav(sound: Awaitable[bytes]) -> Response:
    return Response(await sound, media_type="audio/wav", headers={"Cache-Control": "private, max-age=600"})


def blind_view(view: ComparisonView, *, with_files: bool) -> dict[str, Any]:
    """Return what the page may know of a pair before the vote; the files only where they are the listener's to keep."""
    kept = view.model_dump(mode="json", include=_BLIND)
    return kept | {"a": _side(view.a, with_file=with_files), "b": _side(view.b, with_file=with_files)}


async def _song_around(api: Api, view: ComparisonView) -> dict[str, Any]:
    """Return the song without its gap, long enough for either fill: a continuation lies past the context's end."""
    longer = max(view.a, view.b, key=lambda side: max((n.onset_tick + n.duration_ticks for n in side.notes), default=0))
    return await _song_without(api, longer.midi_base64, [drawn(note) for note in longer.notes])


async def _song_without(api: Api, midi_base64: str, fill: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    song = await api.inspect(midi_base64)
    filled = {(note["track"], note["onset_tick"], note["pitch"]) for note in fill}
    around = tuple(n for n in song.notes if (n.track, n.onset_tick, n.pitch) not in filled)
    return song.model_copy(update={"notes": around}).model_dump(mode="json")


def _side(side: SideView, *, with_file: bool) -> dict[str, Any]:
    shown = {"audio": audio_path(side.audio_url), "notes": [drawn(note) for note in side.notes]}
    return shown | ({"midi_base64": side.midi_base64} if with_file else {})


def drawn(note: PlacedNote) -> dict[str, Any]:
    """Return a note as the piano roll draws it."""
    return note.model_dump(include={"track", "onset_tick", "duration_ticks", "onset_s", "duration_s", "pitch"})


def audio_path(url: str) -> str:
    """Return the path on this server of a sound that the service names by its own address."""
    found = _AUDIO_PATH.fullmatch(url)
    if found is None:
        raise ServiceError("the service named a sound that this page cannot fetch; update both", status=502)
    return f"hx/audio/{found[1]}"


async def _read(kind: type[Body], request: Request) -> Body:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, "The file is larger than 8 MiB, the most that is read.")
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HTTPException(422, f"{where}: {first['msg']}") from error


async def _answer(make: Callable[[], Awaitable[Response]]) -> Response:
    """Return what `make` returns, or the service's problem as one sentence."""
    try:
        return await make()
    except ServiceError as error:
        # Status 0 is the client's word for no answer at all.
        return JSONResponse({"detail": sentence(error)}, status_code=error.status or 503)
