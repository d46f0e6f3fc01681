"""A small service for the pages to speak to: real files in, real schemas out; fills are notes moved by a step."""

import base64
import io
import socket
import struct
import threading
import time
import wave
from datetime import UTC, datetime, timedelta

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from harmonixr_model import examples
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_platform import schemas as s
from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.records.evidence import MIN_HEARD, check_listening
from harmonixr_ui.consent import VERSION


def parse(midi_base64):
    return Song.parse(base64.b64decode(midi_base64)).score


def placed(score, number, note):
    start, end = score.seconds(note.onset), score.seconds(note.end)
    return s.PlacedNote(
        track=number, onset_tick=note.onset, duration_ticks=note.duration, onset_s=start, duration_s=end - start,
        pitch=note.pitch, velocity=max(1, note.velocity),
    )  # fmt: skip


def inspected(score):
    return s.InspectResponse(
        ticks_per_quarter=score.ticks_per_quarter,
        end_tick=score.end,
        duration_s=score.seconds(score.end),
        bars=tuple(
            s.BarView(
                number=b.index + 1, start_tick=b.start, end_tick=b.end, start_s=score.seconds(b.start),
                numerator=b.numerator, denominator=b.denominator,
            )
            for b in score.bars
        ),
        tracks=tuple(
            s.TrackView(number=i, name=t.name, program=t.program, is_drum=t.is_drum, notes=len(t.notes))
            for i, t in enumerate(score.tracks, 1)
        ),
        notes=tuple(placed(score, i, n) for i, t in enumerate(score.tracks, 1) for n in t.notes),
    )  # fmt: skip


def tone(seconds, hertz=8000):
    """A square wave: sound enough to decode, cheap to make."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(hertz)
        file.writeframes(b"".join(struct.pack("<h", 900 if i // 20 % 2 else -900) for i in range(int(seconds * hertz))))
    return out.getvalue()


def gap_of(score, spec):
    first, _, last = spec.bars.partition("-")
    return Region.bars(score, int(first) - 1, int(last or first) - 1, [int(t) - 1 for t in spec.tracks])


def fill_notes(score, region, step):
    return tuple(
        placed(score, t + 1, n._replace(pitch=min(127, n.pitch + step)))
        for t in region.tracks
        for n in score.tracks[t].notes
        if region.contains(t, n)
    )


class FakeService:
    """The routes the pages use, and the requests they got."""

    def __init__(self):
        self.app = FastAPI()
        self.requests, self.judgments, self.problem, self.lose_judgments, self.sounds = [], {}, None, 0, {}
        self.retracted, self.shown, self.progress, self.min_heard, self.headers = [], {}, None, MIN_HEARD, []
        self.pool_song = None
        self.first_step, self.bar_pause_s = 1, 0.0
        for path, call in {
            "/v1/inspect": self.inspect, "/v1/preview": self.preview, "/v1/infill": self.infill,
            "/v1/comparisons": self.comparisons, "/v1/judgments": self.judge,
            "/v1/retractions": self.retract,
        }.items():  # fmt: skip
            self.app.post(path)(self._guarded(path, call))
        self.app.get("/v1/audio/{token}")(self.audio)

    def _guarded(self, path, call):
        async def route(request: Request):
            body = await request.json()
            self.requests.append((path, body))
            self.headers.append(request.headers)
            if self.problem and self.problem[0] == path:
                _, status, detail = self.problem
                problem = s.Problem(title="refused", status=status, detail=detail)
                return JSONResponse(problem.model_dump(), status, media_type="application/problem+json")
            return call(body)

        return route

    def inspect(self, body):
        return inspected(parse(s.InspectRequest(**body).midi_base64)).model_dump(mode="json")

    def preview(self, body):
        request = s.PreviewRequest(**body)
        end = request.end_s or parse(request.midi_base64).seconds(parse(request.midi_base64).end)
        return Response(tone(end - request.start_s), media_type="audio/wav")

    def infill(self, body):
        request = s.InfillRequest(**body)
        score = parse(request.midi_base64)
        region = gap_of(score, request.region)
        candidates = tuple(
            s.CandidateView(
                index=i, seed=7 + i, midi_base64=request.midi_base64, notes=fill_notes(score, region, i + 1),
                tokens=((1, 2),), log_probability=-1.0 - i,
            )
            for i in range(request.sampling.n)
        )  # fmt: skip
        answer = s.InfillResponse(
            request_id=f"request-{len(self.requests)}", model_version="infill-v1", checkpoint_sha256="0" * 64,
            seed=request.sampling.seed or 7, candidates=candidates, timings_ms={},
        )  # fmt: skip
        if "text/event-stream" in self.headers[-1]["accept"]:
            return StreamingResponse(self._events(answer), media_type="text/event-stream")
        return answer.model_dump(mode="json")

    def _events(self, answer):
        def block(name, event):
            return f"event: {name}\ndata: {event.model_dump_json()}\n\n"

        made = {name: getattr(answer, name) for name in s.InfillDone.model_fields}
        accepted = {name: made[name] for name in ("request_id", "model_version", "seed")}
        yield block("accepted", s.InfillAccepted(**accepted, candidates=len(answer.candidates)))
        for candidate in answer.candidates:
            for track in dict.fromkeys(note.track for note in candidate.notes):
                notes = tuple(note for note in candidate.notes if note.track == track)
                time.sleep(self.bar_pause_s)
                yield block("bar", s.InfillBar(
                    seed=candidate.seed, candidate=candidate.index, bar=1, track=track, notes=notes,
                ))  # fmt: skip
            yield block("candidate", candidate)
        yield block("done", s.InfillDone(**made))

    async def audio(self, token: str):
        return Response(tone(self.sounds[token]), media_type="audio/wav")

    def comparisons(self, body):
        request = s.ComparisonRequest(**body)
        midi = request.infill.midi_base64 if request.infill else self.pool_song
        region = request.infill.region if request.infill else s.RegionSpec(bars="5", tracks=[1])
        score, number = parse(midi), len(self.requests)
        cells = gap_of(score, region)
        start, end = score.seconds(cells.start), score.seconds(cells.end)
        begin = max(0.0, start - 0.5)

        def side(step, name):
            notes = fill_notes(score, cells, step)
            self.sounds[f"{name}-{number}"] = end + 1 - begin
            self.shown[f"comparison-{number}"] = (start, end, time.monotonic())
            return s.SideView(midi_base64=midi, notes=notes, audio_url=f"/v1/audio/{name}-{number}")

        view = s.ComparisonView(
            comparison_id=f"comparison-{number}", token=f"token-{number}",
            expires=datetime.now(UTC) + timedelta(hours=1), context_base64=midi,
            context_audio_url=f"/v1/audio/context-{number}", start_s=start, end_s=end, audio_start_s=begin,
            audio_end_s=end + 1, min_heard=self.min_heard, progress=self.progress, region=region,
            a=side(self.first_step, "left"), b=side(3, "right"),
        )  # fmt: skip
        return JSONResponse(view.model_dump(mode="json"), 201)

    def judge(self, body):
        request = s.JudgmentRequest(**body)
        if self.lose_judgments:
            self.lose_judgments -= 1
            problem = s.Problem(title="unavailable", status=503, detail="the vote store does not answer; vote again")
            return JSONResponse(problem.model_dump(), 503)
        if not request.simulated:
            start, end, at = self.shown[request.comparison_id]
            since = time.monotonic() - at
            try:
                listening = check_listening(
                    request.listening, request.choice, start_s=start, end_s=end, since_shown_s=since,
                    min_heard=self.min_heard,
                )  # fmt: skip
            except FeedbackError as error:
                problem = s.Problem(title="refused", status=error.status, detail=str(error))
                return JSONResponse(problem.model_dump(), error.status)
            request = request.model_copy(update={"listening": listening})
        duplicate = request.judgment_id in self.judgments
        self.judgments[request.judgment_id] = request
        receipt = s.JudgmentReceipt(
            judgment_id=request.judgment_id,
            stored=True,
            duplicate=duplicate,
            model_a="secret-one",
            model_b="secret-two",
        )
        return JSONResponse(receipt.model_dump(), 201)

    def retract(self, body):
        request = s.RetractionRequest(**body)
        duplicate = request.judgment_id in self.retracted
        self.retracted.append(request.judgment_id)
        receipt = s.RetractionReceipt(judgment_id=request.judgment_id, retracted=True, duplicate=duplicate)
        return JSONResponse(receipt.model_dump(), 201)


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def serve():
    """Serve an ASGI app on a free port of this machine; returns its address."""
    running = []

    def start(app):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        return f"http://127.0.0.1:{port}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(10)


CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        yield chromium
        chromium.close()


# A listener who has agreed, set the volume and practised.
# The script also runs in the report's sandboxed frame, which has no storage.
INTRODUCED = f"""
if (window === window.top) {{
  localStorage.setItem('harmonixr.consent', '{{"version": "{VERSION}", "given": "2026-01-02T03:04:05Z"}}');
  localStorage.setItem('harmonixr.introduced', 'true');
}}
"""


@pytest.fixture
def open_page(browser, service, serve):
    """Open the pages on the fake service; afterwards, no request may have gone elsewhere and no script failed."""
    from harmonixr_ui.app import make_app

    service.pool_song = base64.b64encode(examples.load("song-1")).decode()
    address = serve(make_app(serve(service.app)))
    contexts, outside, errors = [], [], []

    def start(*, introduced=True, **options):
        context = browser.new_context(**(options or {"viewport": {"width": 1280, "height": 900}}))
        contexts.append(context)
        if introduced:
            context.add_init_script(INTRODUCED)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda r: None if r.url.startswith((address, "blob:", "data:")) else outside.append(r.url))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(address)
        page.wait_for_selector("#hx-song .hx-title:has-text('Minuet')")
        page.wait_for_selector("#hx-tracks input >> nth=1")
        return page

    yield start
    for context in contexts:
        context.close()
    assert outside == []
    assert errors == []
