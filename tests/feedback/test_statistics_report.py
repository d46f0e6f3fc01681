"""The report separates people and programs, names what it leaves out, and has a text and an HTML form."""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_platform.feedback.records.judgments import JudgmentLog
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.pairs import make_pair
from harmonixr_platform.feedback.records.reader import Feedback, JudgedPair, read_feedback
from harmonixr_platform.feedback.reports.flags import flagged_judgments, flags_of, record_flags
from harmonixr_platform.feedback.reports.html_report import report_html
from harmonixr_platform.feedback.reports.report import report
from harmonixr_platform.feedback.reports.statistics_input import vote_of
from harmonixr_platform.feedback.reports.text_report import report_text
from harmonixr_platform.schemas import (
    Candidate,
    Choice,
    Comparison,
    ControlSpec,
    Flag,
    Judgment,
    Listening,
    Pair,
    RegionSpec,
    SamplingSpec,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = ("model-x", "model-y", "model-z")


def _candidate(model: str, *, seed: int, notes: int) -> Candidate:
    held = [VOCAB.id("HOLD"), VOCAB.pitch[60], VOCAB.duration[0]]
    tokens = tuple(held + [VOCAB.pitch[50 + i % 30] for i in range(notes)])
    return Candidate(
        model_version=model,
        checkpoint_sha256="0" * 64,
        sampling=SamplingSpec(),
        seed=seed,
        tokens=(tokens,),
        midi_sha256="0" * 64,
        midi_base64="",
    )


def _pair(number: int, models: tuple[str, str] = ("model-x", "model-y"), notes: tuple[int, int] = (5, 5)) -> Pair:
    return make_pair(
        b"",
        piece_id=f"piece-{number}",
        region=RegionSpec(bars="2"),
        controls=ControlSpec(),
        first=_candidate(models[0], seed=2 * number, notes=notes[0]),
        second=_candidate(models[1], seed=2 * number + 1, notes=notes[1]),
    )


def _judged(number: int, pair: Pair, rater: str, choice: str, *, simulated: bool = False, **more: Any) -> JudgedPair:
    content = {"swapped": False, "propensity": 0.5, "source": "study", "pool": "default"} | more
    comparison = Comparison(
        comparison_id=f"c{number}",
        pair_id=pair.pair_id,
        rater=rater,
        created=NOW - timedelta(seconds=20),
        expires=NOW + timedelta(days=1),
        **content,
    )
    judgment = Judgment(
        judgment_id=f"j{number:07}",
        comparison_id=comparison.comparison_id,
        pair_id=pair.pair_id,
        rater=rater,
        choice=Choice(choice),
        listening=Listening(heard_a=1, heard_b=1),
        simulated=simulated,
        received=NOW,
    )
    return JudgedPair(judgment, comparison, pair)


def _study(raters: int = 6, each: int = 30, *, simulated: bool = False, seed: int = 0) -> list[JudgedPair]:
    """Model x is better than y and y than z; sides are drawn by a fair coin."""
    rng = random.Random(seed)
    kept = []
    for r in range(raters):
        for i in range(each):
            models = rng.sample(MODELS, 2)
            better = 0.72 if models == sorted(models) else 0.28
            swapped = rng.random() < 0.5
            choice = "a" if (rng.random() < better) != swapped else "b"
            pair = _pair(1000 * MODELS.index(models[0]) + 100 * MODELS.index(models[1]) + i, (models[0], models[1]))
            number = 10_000 * simulated + 100 * r + i
            rater = f"{'program' if simulated else 'person'}-{r}"
            kept.append(_judged(number, pair, rater, choice, simulated=simulated, swapped=swapped))
    return kept


def _feedback(judged: Sequence[JudgedPair], flags: Sequence[Flag] = ()) -> Feedback:
    return Feedback(tuple(judged), tuple(flags), ())


def test_the_better_model_leads_and_every_part_is_there() -> None:
    content = report(_feedback(_study()), resamples=50)
    assert [model["model_version"] for model in content["models"]] == list(MODELS)
    (panel,) = content["panels"]
    assert panel["all"]["converged"]
    assert panel["all"]["rao_kupper"]["same_order"]
    assert panel["agreement"]["units"] > 10
    assert {row["verdict"] for row in panel["stopping"]} == {"go_on"}
    cell = panel["all"]["outcomes"][0]
    assert (cell["first"], cell["second"]) == ("model-x", "model-y")
    assert cell["win_rate"] > 0.5


def test_people_and_programs_are_never_mixed_and_programs_are_labelled() -> None:
    people, programs = _study(seed=1), _study(simulated=True, seed=2)
    content = report(_feedback(people + programs), resamples=20)
    assert [panel["origin"] for panel in content["panels"]] == ["people", "simulated"]
    assert [panel["raters"] for panel in content["panels"]] == [6, 6]
    assert content["models"] == report(_feedback(people), resamples=20)["models"]
    assert "SIMULATED raters" in report_text(content)
    assert report_html(content).count("simulated raters") >= 2
    alone = report(_feedback(people), resamples=20)
    assert "SIMULATED" not in report_text(alone)
    assert "simulated raters" not in report_html(alone)


def test_a_rater_who_always_chooses_a_is_flagged_and_left_out_of_the_second_ranking() -> None:
    lazy = [_judged(90_000 + i, _pair(i), "lazy", "a", swapped=bool(i % 2)) for i in range(40)]
    content = report(_feedback(_study() + lazy), resamples=20)
    (panel,) = content["panels"]
    assert [rater["rater"] for rater in panel["quality"] if rater["flags"]] == ["lazy"]
    assert panel["left_out"] == 40
    assert panel["all"]["votes"] == panel["unflagged"]["votes"] + 40
    text = report_text(content)
    assert "flag one_side v1: rater lazy chose side a in 40 of 40" in text
    assert "without flagged raters" in text


def test_flags_are_recorded_once_and_an_old_version_of_a_rule_counts_no_more(lab: Any) -> None:
    feedback = _feedback([_judged(i, _pair(i), "lazy", "a") for i in range(15)])
    flags = flags_of(feedback, now=NOW)
    assert len(flags) == 15
    log = JudgmentLog(lab.stream)
    assert record_flags(log, flags) == 15
    assert record_flags(log, flags_of(feedback, now=NOW + timedelta(days=1))) == 0
    Mover(lab.stream, lab.store).run_once()
    assert flagged_judgments(read_feedback(lab.store).flags) == {f"j{i:07}" for i in range(15)}
    old = [flag.model_copy(update={"rule_version": 0}) for flag in flags]
    assert flagged_judgments(old) == set()
    assert flagged_judgments([flags[0].model_copy(update={"rule": "flood", "rule_version": 3})]) == {"j0000000"}


def test_gold_pairs_and_repeats_check_raters_and_never_rank() -> None:
    study = _study()
    gold = [
        _judged(80_000 + i, _pair(i), "person-0", "b", role="gold", expected="second" if i else "first")
        for i in range(4)
    ]
    repeats = [_judged(70_000, study[0].pair, "person-0", "tie", role="repeat")]
    content = report(_feedback(study + gold + repeats), resamples=20)
    (panel,) = content["panels"]
    assert panel["gold"] == {"answers": 4, "right": 3, "accuracy": 0.75}
    assert panel["repeats"]["repeats"] >= 1
    assert panel["all"]["votes"] == len(study)
    assert panel["all"]["models"] == report(_feedback(study), resamples=20)["panels"][0]["all"]["models"]


def test_unconnected_models_are_counted_and_not_ranked() -> None:
    unconnected = [_judged(i, _pair(i), f"r{i % 3}", "ab"[i % 2]) for i in range(12)]
    unconnected += [_judged(100 + i, _pair(i, ("model-p", "model-q")), f"r{i % 3}", "a") for i in range(12)]
    content = report(_feedback(unconnected), resamples=20)
    assert content["models"] == []
    assert "{model-p, model-q} from {model-x, model-y}" in content["refusal"]
    assert content["wins"]["model-p"]["model-q"] == 12
    assert "no ranking" in report_text(content)
    assert "No ranking" in report_html(content)


def test_weighting_undoes_the_schedulers_preference() -> None:
    """A pair that was chosen nine times as often counts a ninth: x won the one always, y the other."""
    often = [_judged(i, _pair(0), f"r{i % 3}", "a", propensity=0.9) for i in range(90)]
    seldom = [_judged(100 + i, _pair(1), f"r{i % 3}", "b", propensity=0.1) for i in range(10)]
    (cell,) = report(_feedback(often + seldom), resamples=20)["panels"][0]["all"]["outcomes"]
    assert cell["win_rate"] == pytest.approx(0.9)
    assert cell["win_rate_weighted"] == pytest.approx(0.5)


def test_a_studys_report_holds_its_judgments_only() -> None:
    named = [_judged(i, _pair(i), f"r{i % 3}", "ab"[i % 2], study="spring@1f2e") for i in range(8)]
    other = [_judged(100 + i, _pair(i), "r", "a", pool="other") for i in range(5)]
    feedback = _feedback(named + other)
    counts = [
        report(feedback, study=s, resamples=20)["judgments"] for s in (None, "spring", "spring@1f2e", "other", "no")
    ]
    assert counts == [13, 8, 8, 5, 0]


def test_the_arms_of_a_study_are_ranked_though_one_model_made_them_all() -> None:
    pair = _pair(0, ("model-x", "model-x"))
    judged = [_judged(i, pair, f"r{i % 4}", "aab"[i % 3], study="heat@1", arms=("cool", "warm")) for i in range(24)]
    content = report(_feedback(judged), study="heat", resamples=20)
    assert content["by"] == "arm"
    assert [model["model_version"] for model in content["models"]] == ["cool", "warm"]
    assert content["panels"][0]["stopping"][0]["first"] == "cool"
    assert report(_feedback(judged), resamples=20)["models"] == []


def test_a_vote_has_its_side_and_note_ratio() -> None:
    """The note held into the gap is not the fill's own: 7 against 3 notes are one doubling, one more each."""
    vote = vote_of(_judged(0, _pair(0, notes=(7, 3)), "r", "a", swapped=True))
    assert vote is not None
    assert (vote.side, vote.notes, vote.outcome) == (-1, 1.0, 1)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [str(value) for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "line", "rect", "circle"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag


@pytest.mark.parametrize(
    "make", [list, _study, lambda: _study(raters=1), lambda: _study(2, 3)], ids=["empty", "study", "one rater", "small"]
)
def test_the_page_is_well_formed_and_self_contained(make: Callable[[], list[JudgedPair]]) -> None:
    page = report_html(report(_feedback(make()), resamples=20))
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    assert reader.outside == []
    assert "<script" not in page


def test_names_cannot_write_into_the_page() -> None:
    evil = '<img src=x onerror="1">'
    content = report(
        _feedback([_judged(i, _pair(i, (evil, "y")), f"r{i % 3}", "ab"[i % 2]) for i in range(9)]), resamples=20
    )
    assert "<img" not in report_html(content)
