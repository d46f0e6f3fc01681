"""Strengths that made the votes are found again, and the intervals know that raters differ."""

import random
from typing import Any

import numpy as np
import pytest

from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.reports import report_cache
from harmonixr_platform.feedback.reports.report import report
from harmonixr_platform.feedback.reports.text_report import report_text
from harmonixr_platform.feedback.statistics.comparison_graph import Disconnected
from harmonixr_platform.feedback.statistics.ranking import Standing, rank
from harmonixr_platform.feedback.statistics.votes import Vote


def _votes(strengths: dict[str, float], count: int, *, tie: float = 0.5, seed: int = 0, raters: int = 20) -> list[Vote]:
    rng = random.Random(seed)
    votes = []
    for i in range(count):
        first, second = rng.sample(sorted(strengths), 2)
        a, b = strengths[first], strengths[second]
        weights = [np.exp(a), np.exp(b), tie * np.exp((a + b) / 2)]
        votes.append(Vote(first, second, rng.choices([0, 1, 2], weights)[0], f"rater-{i % raters}"))
    return votes


def test_the_strengths_that_made_the_votes_are_found() -> None:
    truth = {"weak": -0.8, "middle": 0.0, "strong": 0.8}
    found = rank(_votes(truth, 6000), resamples=20).standings
    assert [standing.model for standing in found] == ["strong", "middle", "weak"]
    for standing in found:
        assert standing.strength == pytest.approx(truth[standing.model], abs=0.12)
        assert standing.low is not None
        assert standing.high is not None
        assert standing.low <= standing.strength <= standing.high


def test_two_models_alone_give_the_log_odds_of_their_wins() -> None:
    votes = [Vote("a", "b", 0, "r")] * 300 + [Vote("b", "a", 0, "r")] * 100
    best, other = rank(votes, resamples=5).standings
    assert best.strength - other.strength == pytest.approx(np.log(3), abs=0.01)


def test_a_model_that_always_wins_has_a_finite_strength() -> None:
    best, other = rank([Vote("a", "b", 0, "r")] * 50, resamples=5).standings
    assert best.model == "a"
    assert 1 < best.strength - other.strength < 20


def test_disagreement_between_raters_widens_the_interval() -> None:
    agreeing = [Vote("a", "b", int(i % 2), f"rater-{i % 7}") for i in range(200)]
    opposed = [Vote("a", "b", int(i % 6 < 3), f"rater-{i % 6}") for i in range(200)]
    widths = [_width(rank(votes).standings[0]) for votes in (agreeing, opposed)]
    assert widths[1] > 3 * widths[0]


def _width(standing: Standing) -> float:
    assert standing.low is not None
    assert standing.high is not None
    return standing.high - standing.low


def test_one_rater_alone_gives_no_interval() -> None:
    (best, _) = rank([Vote("a", "b", i % 2, "r") for i in range(20)]).standings
    assert (best.low, best.high) == (None, None)


def test_unconnected_models_are_named_and_not_ranked() -> None:
    votes = [Vote("a", "b", 0, "r"), Vote("x", "y", 1, "s")]
    with pytest.raises(Disconnected, match=r"\{a, b\} from \{x, y\}"):
        rank(votes)


def test_the_report_without_votes_has_no_ranking(lab: Any) -> None:
    text = report_text(report(read_feedback(lab.store)))
    assert text.startswith("0 judgments")
    assert "no ranking" in text


def test_the_report_counts_the_judgments(lab: Any) -> None:
    lab.fill_pool(3)
    for choice in ("a", "b", "tie", "skip", "both_bad"):
        lab.judge(choice)
    Mover(lab.stream, lab.store).run_once()
    content = report(read_feedback(lab.store), resamples=5)
    assert content["judgments"] == 5
    assert content["choices"] == {"a": 1, "b": 1, "both_bad": 1, "skip": 1, "tie": 1}
    assert content["side_a_share"] == 0.5
    assert {model["model_version"] for model in content["models"]} == {"model-x", "model-y"}
    assert [model["votes"] for model in content["models"]] == [3, 3]
    assert "model-x" in report_text(content)


def test_a_report_cache_is_made_once_and_again_when_more_was_moved(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(report_cache, "report", lambda *a, **k: made.append(k["study"]) or report(*a, **k))
    lab.fill_pool(2)
    live = report_cache.ReportCache(lab.store)
    for moved in range(2):
        lab.judge("a")
        Mover(lab.stream, lab.store).run_once()
        assert [live.read()["judgments"] for _ in range(3)] == [moved + 1] * 3
    live.read("default")
    assert made == [None, None, "default"]
