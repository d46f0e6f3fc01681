"""The simulated listener judges over HTTP, has the taste it claims, and is always labelled."""

import base64
import random
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harmonixr_model.music.song import Song
from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.reports.flags import flags_of
from harmonixr_platform.feedback.studies.definition import parse_study
from harmonixr_platform.feedback.studies.simulated_raters import Taste, judge, read_mix, simulate, utility
from harmonixr_platform.feedback.studies.store import BegunStudy, StudyPair
from harmonixr_platform.requests import resolve_region
from harmonixr_platform.schemas import Choice, ComparisonRequest, JudgmentRequest, PlacedNote
from harmonixr_platform.serving.errors import problem_of


@pytest.fixture
def api(lab: Any) -> Iterator[str]:
    """The two routes over a real HTTP server; the first request of each is answered 503."""
    busy = {"/v1/comparisons", "/v1/judgments"}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path in busy:
                busy.discard(self.path)
                return self._answer(503, "busy")
            try:
                if self.path == "/v1/comparisons":
                    answer = lab.service.create_comparison(ComparisonRequest.model_validate_json(body))
                else:
                    answer = lab.service.record_judgment(JudgmentRequest.model_validate_json(body))
            except FeedbackError as error:
                return self._answer(error.status, problem_of(error).model_dump_json())
            return self._answer(201, answer.model_dump_json())

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_simulated_judgments_are_stored_and_labelled(lab: Any, api: str) -> None:
    lab.fill_pool(3)
    answers = list(simulate(api, 9, pool="default", raters=3))
    Mover(lab.stream, lab.store).run_once()
    judged = read_feedback(lab.store).judged
    assert len(judged) == len(answers) == 9
    assert all(row.judgment.simulated for row in judged)
    assert len({row.judgment.rater for row in judged}) == 3


def test_an_unknown_pool_ends_the_simulation_with_the_services_error(lab: Any, api: str) -> None:
    with pytest.raises(FeedbackError, match=r"404.*has no pairs"):
        list(simulate(api, 1, pool="none"))


def test_the_rules_find_each_kind_of_rater_and_a_complete_study_ends_the_simulation(lab: Any, api: str) -> None:
    pairs = [lab.service.pairs.put(lab.pair(i)) for i in range(16)]
    values = {
        "name": "mixed",
        "arms": [{"name": "x"}, {"name": "y"}],
        "quotas": {"per_rater": 14},
        "gold": {"share": 0},
        "repeats": {"share": 0},
    }
    lab.service.studies.begin(
        BegunStudy(
            study=parse_study(values, source="test"),
            models={"x": "model-x", "y": "model-y"},
            pairs=tuple(StudyPair(pair_id=pair.pair_id, first="x", second="y") for pair in pairs),
            gold=(),
            begun=lab.clock(),
        )
    )
    mix = read_mix("honest=2,always_a=1,random=1,fast=1")
    answers = list(simulate(api, 500, pool="mixed", mix=mix, seed=5))
    assert Counter(answer.kind for answer in answers) == {"honest": 28, "always_a": 14, "random": 14, "fast": 14}
    Mover(lab.stream, lab.store).run_once()
    feedback = read_feedback(lab.store)
    kind_of = {lab.service._signer.pseudonym(answer.rater_key): answer.kind for answer in answers}
    rater_of = {one.judgment.judgment_id: one.judgment.rater for one in feedback.judged}
    flagged = {(kind_of[rater_of[flag.judgment_id]], flag.rule) for flag in flags_of(feedback, now=lab.clock())}
    assert flagged == {("always_a", "one_side"), ("fast", "not_heard")}


def test_an_invalid_mix_error_names_the_kinds_of_raters() -> None:
    with pytest.raises(FeedbackError, match="honest, always_a, random, fast"):
        read_mix("honest=2,sleepy=1")


def _notes(pitches: list[int], *, track: int, onset: int) -> tuple[PlacedNote, ...]:
    return tuple(
        PlacedNote(
            track=track, onset_tick=onset, duration_ticks=10, onset_s=0, duration_s=0.1, pitch=pitch, velocity=64
        )
        for pitch in pitches
    )


def test_the_taste_is_for_the_scale_and_for_the_usual_density(lab: Any) -> None:
    lab.fill_pool(1)
    view = lab.compare()
    context = Song.parse(base64.b64decode(view.context_base64))
    region = resolve_region(view.region, context)
    track = next(i for i in region.tracks if not context.score.tracks[i].is_drum)
    heard = [note.pitch for note in context.score.tracks[track].notes]
    taste = Taste()

    def liked(pitches: list[int]) -> float:
        return utility(_notes(pitches, track=track + 1, onset=region.start), context, region, taste=taste)

    melody = (heard * 20)[:40]
    chromatic = [60 + i % 12 for i in range(40)]
    assert liked(melody) > liked(chromatic)
    assert liked(melody[:20]) > liked(melody[:1])
    quiet = Taste(noise=0.0)
    better = view.a.model_copy(update={"notes": _notes(melody, track=track + 1, onset=region.start)})
    worse = view.b.model_copy(update={"notes": _notes(chromatic, track=track + 1, onset=region.start)})
    assert judge(view.model_copy(update={"a": better, "b": worse}), random.Random(0), taste=quiet) is Choice.A
    assert judge(view.model_copy(update={"a": worse, "b": better}), random.Random(0), taste=quiet) is Choice.B
    assert judge(view.model_copy(update={"a": better, "b": better}), random.Random(0), taste=quiet) is Choice.TIE
