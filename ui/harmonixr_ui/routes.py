"""The page's own HTTP routes: sound, previews, blind pairs and votes, passed on to the service.

The browser talks to this server only; where the service is stays between the two. Nothing is kept here.
"""

import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from harmonixr_platform.schemas import ComparisonView, PlacedNote, SideView
from harmonixr_ui.api import Api, ApiError

ASSETS = Path(__file__).parent / "assets"
_KINDS = {".js": "text/javascript", ".css": "text/css"}
_TOKEN = re.compile(r"[A-Za-z0-9_.~-]{1,512}")
_AUDIO_PATH = re.compile(r"(?:https?://[^/]+)?/v1/audio/([A-Za-z0-9_.~-]{1,512})")
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
        return await _pass_on(api, "GET", f"/v1/audio/{token}")

    @router.post("/preview")
    async def preview(request: Request) -> Response:
        return await _pass_on(api, "POST", "/v1/preview", content=await _body(request))

    @router.post("/comparisons")
    async def comparison(request: Request) -> Response:
        try:
            answer = await api.send("POST", "/v1/comparisons", content=await _body(request))
            view = ComparisonView.model_validate_json(answer.content)
            song = await _song_around(api, view)
        except ApiError as error:
            return _problem(error)
        return JSONResponse(blind_view(view) | {"song": song})

    @router.post("/judgments")
    async def judgment(request: Request) -> Response:
        return await _pass_on(
            api, "POST", "/v1/judgments", content=await _body(request), key=request.headers.get("idempotency-key")
        )

    return router


def blind_view(view: ComparisonView) -> dict[str, Any]:
    """Return what the page may know of a pair before the vote."""
    kept = view.model_dump(
        mode="json", include={"comparison_id", "token", "start_s", "end_s", "audio_start_s", "region"}
    )
    return kept | {"a": _side(view.a), "b": _side(view.b)}


async def _song_around(api: Api, view: ComparisonView) -> dict[str, Any]:
    """Return the song without its gap, long enough for either fill: a continuation lies past the context's end."""
    longer = max(view.a, view.b, key=lambda side: max((n.onset_tick + n.duration_ticks for n in side.notes), default=0))
    song = await api.inspect(longer.midi_base64)
    filled = {(note.track, note.onset_tick, note.pitch) for note in longer.notes}
    around = tuple(n for n in song.notes if (n.track, n.onset_tick, n.pitch) not in filled)
    return song.model_copy(update={"notes": around}).model_dump(mode="json")


def _side(side: SideView) -> dict[str, Any]:
    return {
        "midi_base64": side.midi_base64,
        "audio": audio_path(side.audio_url),
        "notes": [drawn(note) for note in side.notes],
    }


def drawn(note: PlacedNote) -> dict[str, Any]:
    """Return a note as the piano roll draws it."""
    return note.model_dump(include={"track", "onset_tick", "duration_ticks", "onset_s", "duration_s", "pitch"})


def audio_path(url: str) -> str:
    """Return the path on this server of a sound that the service names by its own address."""
    found = _AUDIO_PATH.fullmatch(url)
    if found is None:
        raise ApiError("The music service named a sound this page cannot fetch; update both.", status=502)
    return f"hx/audio/{found[1]}"


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, "the file is too large; the limit is 8 MiB of MIDI")
    return bytes(body)


async def _pass_on(
    api: Api, method: str, path: str, *, content: bytes | None = None, key: str | None = None
) -> Response:
    try:
        answer = await api.send(method, path, content=content, key=key)
    except ApiError as error:
        return _problem(error)
    return Response(
        answer.content,
        status_code=answer.status_code,
        media_type=answer.headers.get("content-type"),
        headers={"Cache-Control": "private, max-age=600" if method == "GET" else "no-store"},
    )


def _problem(error: ApiError) -> JSONResponse:
    return JSONResponse({"detail": error.detail}, status_code=error.status)
