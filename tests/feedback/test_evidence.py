"""What was heard is worked out from intervals, and a verdict needs enough of it on both sides."""

import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonixr_platform.feedback.errors import NotHeard, TooSoon
from harmonixr_platform.feedback.records.evidence import MIN_HEARD, check_listening, covered_s
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.schemas import Choice, JudgmentRequest, Listening

WHOLE = ((0.0, 100.0),)
seconds = st.floats(0, 30)
stretches = st.lists(st.tuples(seconds, seconds).map(lambda pair: (min(pair), max(pair))), max_size=8)


def checked(a=WHOLE, b=WHOLE, *, choice=Choice.A, since_shown_s=1e6, **more):
    listening = Listening(intervals_a=a, intervals_b=b, **more)
    return check_listening(listening, choice, start_s=10, end_s=20, since_shown_s=since_shown_s, min_heard=MIN_HEARD)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], 0),
        ([(0, 10), (20, 30)], 0),
        ([(0, 30)], 10),
        ([(12, 14), (12, 14), (13, 15)], 3),
        ([(18, 25), (5, 11)], 3),
        ([(19, 19)], 0),
    ],
)
def test_each_second_of_the_fill_counts_once_and_seconds_around_it_never(intervals, expected):
    assert covered_s(intervals, start_s=10, end_s=20) == pytest.approx(expected)


@given(stretches)
def test_coverage_equals_counting_every_hundredth(intervals):
    marks = [10 + (i + 0.5) / 100 for i in range(1000)]
    counted = sum(any(begin <= mark < end for begin, end in intervals) for mark in marks) / 100
    assert covered_s(intervals, start_s=10, end_s=20) == pytest.approx(counted, abs=0.02 * (len(intervals) + 1))


@given(stretches, stretches)
def test_hearing_more_never_counts_as_less(some, more):
    alone, together = (covered_s(heard, start_s=10, end_s=20) for heard in (some, [*some, *more]))
    assert alone <= together + 1e-9 <= 10 + 2e-9


def test_the_clients_own_coverage_is_ignored():
    with pytest.raises(NotHeard, match="0% of the fill was heard on side a"):
        checked((), WHOLE, heard_a=1.0, heard_b=1.0)
    listening = checked(((0.0, 18.0),), WHOLE, heard_a=0.1)
    assert (listening.heard_a, listening.heard_b) == (0.8, 1.0)


@pytest.mark.parametrize("choice", [Choice.A, Choice.B, Choice.TIE, Choice.BOTH_BAD])
def test_every_verdict_needs_both_sides_and_a_skip_needs_none(choice):
    with pytest.raises(NotHeard, match="side b") as caught:
        checked(WHOLE, ((10.0, 17.0),), choice=choice)
    assert caught.value.status == 422
    assert checked((), (), choice=Choice.SKIP).heard_a == 0


def test_repeating_one_second_does_not_open_the_vote():
    with pytest.raises(NotHeard):
        checked(((12.0, 13.0),) * 50, WHOLE)


def test_more_than_time_allows_is_refused():
    assert checked(since_shown_s=20).heard_b == 1
    with pytest.raises(TooSoon, match=r"20\.0 s of fills cannot have been heard in the 3\.0 s") as caught:
        checked(since_shown_s=3)
    assert caught.value.status == 409


def test_an_interval_that_ends_before_it_begins_is_refused():
    with pytest.raises(NotHeard, match="ends before it begins"):
        checked(((15.0, 12.0),), WHOLE)


def test_a_judgment_is_accepted_only_after_listening(lab: Any) -> None:
    lab.fill_pool(1)
    view = lab.compare()
    assert view.min_heard == MIN_HEARD
    heard = lab.judgment(view, "tie")
    with pytest.raises(NotHeard):
        lab.service.record_judgment(heard.model_copy(update={"listening": Listening(heard_a=1, heard_b=1)}))
    assert lab.stream.backlog("none").length == 1
    assert lab.service.record_judgment(heard).stored


def test_a_verdict_faster_than_the_music_is_refused(lab: Any) -> None:
    lab.fill_pool(1)
    view = lab.compare()
    answer = lab.judgment(view)
    lab.clock.now -= 2 * (lab.clock.now - lab.clock.now.replace(microsecond=0))
    lab.clock.pass_(seconds=-2 * (view.end_s - view.start_s) + 1)
    with pytest.raises(TooSoon):
        lab.service.record_judgment(answer)


def test_strength_tags_comment_and_consent_are_stored_with_the_judgment(lab: Any) -> None:
    lab.fill_pool(1)
    view = lab.compare()
    consent = {"version": "1", "given": lab.clock()}
    details = {"strength": 3, "tags": ["timing", "boring"], "comment": "  late in bar 2 \n", "consent": consent}
    lab.service.record_judgment(lab.judgment(view, "b", **details))
    Mover(lab.stream, lab.store).run_once()
    (row,) = read_feedback(lab.store).judged
    judgment = row.judgment
    assert (judgment.strength, judgment.tags, judgment.comment) == (3, ("boring", "timing"), "late in bar 2")
    assert judgment.consent is not None
    assert judgment.consent.version == "1"
    assert (judgment.listening.heard_a, judgment.listening.heard_b) == (1, 1)
    assert judgment.listening.intervals_a == ((view.start_s, view.end_s),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"choice": "tie", "strength": 2},
        {"choice": "a", "strength": 4},
        {"choice": "a", "tags": ["seam", "seam"]},
        {"choice": "a", "tags": ["lovely"]},
        {"choice": "a", "comment": "x" * 501},
        {"choice": "a", "listening": {"intervals_a": [[0, float("nan")]]}},
        {"choice": "a", "listening": {"intervals_a": [[0, 1]] * 513}},
    ],
)
def test_invalid_listening_is_refused_by_the_schema(wrong):
    content = {"judgment_id": secrets.token_hex(8), "comparison_id": "c", "token": "t", "rater_key": "a-rater-key"}
    with pytest.raises(ValueError, match="JudgmentRequest"):
        JudgmentRequest.model_validate(content | wrong)
