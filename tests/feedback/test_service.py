"""From requesting a blind pair to the receipt, with the error of each mistake."""

import base64
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from harmonixr_model.music.song import Song
from harmonixr_platform.feedback.errors import (
    AlreadyJudged,
    BadToken,
    ComparisonExpired,
    FeedbackError,
    UnknownComparison,
    UnknownJudgment,
    UnknownPool,
)
from harmonixr_platform.feedback.records.sides import sides
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.feedback.studies.presenter import make_comparison
from harmonixr_platform.feedback.studies.scheduler import Option, ScheduledPair
from harmonixr_platform.schemas import ComparisonRequest, InfillRequest, RegionSpec
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.errors import StoreUnavailable
from harmonixr_platform.stores.streams import ExternalRedis, RecordStream


def test_a_judgment_is_stored_once_and_its_receipt_names_the_models(lab: Any) -> None:
    (pair,) = lab.fill_pool(1)
    view = lab.compare()
    answer = lab.judgment(view, "b", strength=2, tags=["seam"], comment=" abrupt ")
    receipt = lab.service.record_judgment(answer)
    assert (receipt.stored, receipt.duplicate) == (True, False)
    models = {view.a.midi_base64: receipt.model_a, view.b.midi_base64: receipt.model_b}
    assert models == {c.midi_base64: c.model_version for c in (pair.first, pair.second)}
    again = lab.service.record_judgment(answer)
    assert again == receipt.model_copy(update={"duplicate": True})
    assert lab.stream.backlog("none").length == 2  # the comparison and one judgment


def test_a_view_hides_the_models_and_has_an_empty_gap(lab: Any) -> None:
    (pair,) = lab.fill_pool(1)
    view = lab.compare()
    text = view.model_dump_json()
    for secret in ("model-x", "model-y", pair.pair_id, pair.first.checkpoint_sha256, lab.rater):
        assert secret not in text
    context = Song.parse(base64.b64decode(view.context_base64)).score
    bars = context.bars
    assert not [n for t in context.tracks for n in t.notes if bars[1].start <= n.onset < bars[2].end]
    assert view.a.notes
    assert all(bars[1].start <= n.onset_tick < bars[2].end for n in (*view.a.notes, *view.b.notes))
    assert view.audio_start_s <= view.start_s < view.end_s
    assert view.start_s == pytest.approx(context.seconds(bars[1].start))


def test_a_fair_coin_decides_the_sides(lab: Any) -> None:
    pair, rng = lab.pair(), random.Random(5)
    scheduled = ScheduledPair(Option(pair.pair_id), 1.0)
    shared = {"rater": "r", "pool": None, "now": lab.clock(), "ttl": timedelta(days=1), "rng": rng}
    comparisons = [make_comparison(scheduled, **shared) for _ in range(400)]
    assert 160 < sum(sides(pair, comparison)[0] == pair.first for comparison in comparisons) < 240
    assert len({comparison.comparison_id for comparison in comparisons}) == 400


def test_an_audio_token_gives_its_own_side_only(lab: Any) -> None:
    lab.fill_pool(1)
    view = lab.compare()
    tokens = [url.rpartition("/")[2] for url in (view.a.audio_url, view.b.audio_url, view.context_audio_url)]
    heard = [lab.service.audio(token) for token in tokens]
    expected = [base64.b64decode(midi) for midi in (view.a.midi_base64, view.b.midi_base64, view.context_base64)]
    assert [source.midi for source in heard] == expected
    assert [{source.midi, *source.beside} for source in heard] == [set(expected)] * 3
    assert {(source.start_s, source.end_s) for source in heard} == {(view.audio_start_s, view.audio_end_s)}
    assert view.audio_end_s >= view.end_s
    forged = tokens[0][:-1] + ("0" if tokens[0][-1] != "0" else "1")
    for token in (forged, "", "../etc", tokens[0].replace(tokens[0][32], "c", 1)):
        with pytest.raises(BadToken):
            lab.service.audio(token)


@pytest.mark.parametrize("comparison_id", ["0" * 32, "nonsense", "", "a" * 4000, "}{*"])
def test_an_unknown_comparison_is_404(lab: Any, comparison_id: str) -> None:
    lab.fill_pool(1)
    answer = lab.judgment(lab.compare()).model_copy(update={"comparison_id": comparison_id})
    with pytest.raises(UnknownComparison) as caught:
        lab.service.record_judgment(answer)
    assert caught.value.status == 404


def test_a_wrong_token_or_another_raters_key_is_403(lab: Any) -> None:
    lab.fill_pool(1)
    view = lab.compare()
    with pytest.raises(BadToken) as caught:
        lab.service.record_judgment(lab.judgment(view, token="1." + "0" * 64))
    assert caught.value.status == 403
    for stranger in (lab.judgment(view, rater="another-rater"), lab.judgment(view, token="é" * 20)):
        with pytest.raises(BadToken):
            lab.service.record_judgment(stranger)
    assert lab.stream.backlog("none").length == 1


def test_a_late_judgment_is_410_and_a_late_repeat_is_accepted(lab: Any) -> None:
    lab.fill_pool(2)
    early, late = lab.judgment(lab.compare()), lab.judgment(lab.compare())
    lab.service.record_judgment(early)
    lab.clock.pass_(hours=25)
    with pytest.raises(ComparisonExpired) as caught:
        lab.service.record_judgment(late)
    assert caught.value.status == 410
    assert lab.service.record_judgment(early).duplicate


def test_a_second_vote_is_409_whatever_its_id(lab: Any) -> None:
    lab.fill_pool(1)
    view = lab.compare()
    first = lab.judgment(view, "a")
    lab.service.record_judgment(first)
    with pytest.raises(AlreadyJudged, match="has been judged") as caught:
        lab.service.record_judgment(lab.judgment(view, "b"))
    assert caught.value.status == 409
    with pytest.raises(AlreadyJudged, match="another answer"):
        lab.service.record_judgment(lab.judgment(view, "b", judgment_id=first.judgment_id))


def test_a_judgment_id_of_another_comparison_is_409(lab: Any) -> None:
    lab.fill_pool(2)
    used = lab.judge()
    with pytest.raises(AlreadyJudged):
        lab.service.record_judgment(lab.judgment(lab.compare(), judgment_id=used.judgment_id))


def test_a_retraction_reopens_the_comparison(lab: Any) -> None:
    lab.fill_pool(1)
    view = lab.compare()
    first = lab.judgment(view, "a")
    lab.service.record_judgment(first)
    assert lab.service.retract(first.judgment_id, rater_key=lab.rater) is False
    assert lab.service.retract(first.judgment_id, rater_key=lab.rater) is True
    assert not lab.service.record_judgment(lab.judgment(view, "b")).duplicate
    assert lab.stream.backlog("none").length == 4


def test_only_the_rater_may_take_a_judgment_back(lab: Any) -> None:
    lab.fill_pool(1)
    judgment = lab.judge()
    with pytest.raises(BadToken):
        lab.service.retract(judgment.judgment_id, rater_key="another-rater")
    with pytest.raises(UnknownJudgment):
        lab.service.retract("no-such-judgment", rater_key=lab.rater)


def test_two_fills_of_ones_own_gap_can_be_judged(lab: Any) -> None:
    pair = lab.pair(7)
    infill = InfillRequest(midi_base64=pair.context_base64, region=RegionSpec(bars="2-3"))
    request = ComparisonRequest(rater_key=lab.rater, infill=infill)
    with pytest.raises(FeedbackError, match="must be made"):
        lab.service.create_comparison(request)
    view = lab.service.create_comparison(request, own=pair)
    assert lab.service.record_judgment(lab.judgment(view)).stored
    assert lab.service.pairs.get(pair.pair_id) == pair


def test_an_empty_pool_error_names_the_command(lab: Any) -> None:
    with pytest.raises(UnknownPool, match="harmonixr feedback pool --name empty"):
        lab.compare(pool="empty")
    with pytest.raises(UnknownPool, match="cannot be the name"):
        lab.compare(pool="../secrets")


def test_no_rater_sees_a_pair_twice_before_all_were_seen(lab: Any) -> None:
    lab.fill_pool(4)
    seen = [frozenset({(v := lab.compare()).a.midi_base64, v.b.midi_base64}) for _ in range(8)]
    assert len(set(seen[:4])) == 4
    assert len(set(seen)) == 4


def test_the_raters_key_is_stored_nowhere(lab: Any, tmp_path: Path) -> None:
    lab.fill_pool(1)
    lab.judge()
    lab.stream.create_group("g")
    records = [entry.record for entry in lab.stream.read_new("g", "c", count=9)]
    assert len(records) == 2
    assert not any(lab.rater in record for record in records)


def test_without_redis_every_call_fails_at_once_with_503(lab: Any) -> None:
    lab.fill_pool(1)
    view = lab.compare()
    away = FeedbackService(
        RecordStream(ExternalRedis("redis://127.0.0.1:9/0"), timeout_s=1), lab.store, secret=b"secret", now=lab.clock
    )
    for call in (
        lambda: away.create_comparison(ComparisonRequest(rater_key=lab.rater, pool="default")),
        lambda: away.record_judgment(lab.judgment(view)),
        away.backlog,
    ):
        with pytest.raises(StoreUnavailable, match="Redis does not respond") as caught:
            call()
        assert caught.value.status == 503


def test_settings_alone_open_a_service_that_keeps_its_judgments_over_a_restart(tmp_path: Path, lab: Any) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    service = FeedbackService.open(settings, now=lab.clock)
    lab.service = service
    lab.fill_pool(1)
    view = lab.compare()
    service.close()
    lab.service = FeedbackService.open(settings, now=lab.clock)
    assert lab.service.record_judgment(lab.judgment(view)).stored
    assert lab.service.backlog().length == 2
    assert lab.service.durability_faults() == []
    lab.service.close()
