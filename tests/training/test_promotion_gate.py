"""The gate lets through what is surely liked better and no worse otherwise, and writes down why it refuses."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from harmonixr_platform.feedback.records.reader import JudgedPair
from harmonixr_platform.registry import Lineage, Promotion, PromotionCheck, RegistryError, open_registry
from harmonixr_platform.schemas import (
    Candidate,
    Choice,
    Comparison,
    ControlSpec,
    Judgment,
    Pair,
    RegionSpec,
    SamplingSpec,
)
from harmonixr_platform.settings import Settings
from harmonixr_platform.training.model_metrics import ModelMetrics
from harmonixr_platform.training.promotion_gate import PromotionGate, cluster_error, gate_checks, win_rate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = ModelMetrics(gaps=8, nats=1.9, valid=1.0, seconds=0.2, diversity=0.8, repeated=0.0)


def judged(number: int, *, winner: str, rater: str, piece: str, swapped: bool = False) -> JudgedPair:
    """One judgment between a pair's first fill, of model `new`, and its second, of `old`."""

    def side(version: str) -> Candidate:
        return Candidate(
            model_version=version,
            checkpoint_sha256="",
            sampling=SamplingSpec(),
            seed=0,
            tokens=((),),
            midi_sha256="",
            midi_base64="",
        )

    pair = Pair(
        pair_id=str(number),
        context_base64="",
        context_sha256="",
        piece_id=piece,
        region=RegionSpec(bars="1"),
        controls=ControlSpec(),
        vocabulary_hash="",
        first=side("new"),
        second=side("old"),
    )
    shown = Comparison(
        comparison_id=str(number),
        pair_id=str(number),
        rater=rater,
        swapped=swapped,
        propensity=1.0,
        source="study",
        created=NOW,
        expires=NOW + timedelta(days=1),
    )
    choice = Choice.TIE if winner == "tie" else Choice.A if (winner == "new") != swapped else Choice.B
    judgment = Judgment(
        judgment_id=str(number),
        comparison_id=str(number),
        pair_id=str(number),
        rater=rater,
        choice=choice,
        received=NOW,
    )
    return JudgedPair(judgment, shown, pair)


def votes(chance: float, count: int = 200, seed: int = 0) -> list[JudgedPair]:
    rng = random.Random(seed)
    return [
        judged(
            i,
            winner="new" if rng.random() < chance else "old",
            rater=f"r{i % 10}",
            piece=f"p{i % 20}",
            swapped=rng.random() < 0.5,
        )
        for i in range(count)
    ]


def failed(checks: tuple[PromotionCheck, ...]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def failed_checks(rows: list[JudgedPair], new: ModelMetrics = OLD) -> list[str]:
    won = win_rate(rows, version="new", champion="old", level=0.95)
    return failed(gate_checks(PromotionGate(), won, new, OLD))


def test_a_clearly_better_version_passes_and_a_worse_or_uncertain_one_does_not():
    assert failed_checks(votes(0.7)) == []
    assert failed_checks(votes(0.3)) == ["win_rate"]
    assert failed_checks(votes(0.52)) == ["win_rate"]
    assert failed_checks(votes(1.0, count=20)) == ["judgments"]
    assert failed_checks([]) == ["judgments", "win_rate"]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"nats": 2.1}, "likelihood"),
        ({"valid": 0.9}, "validity"),
        ({"seconds": 0.4}, "latency"),
        ({"diversity": 0.3}, "diversity"),
    ],
)
def test_a_high_win_rate_does_not_replace_another_check(change, check):
    from dataclasses import replace

    assert failed_checks(votes(0.7), replace(OLD, **change)) == [check]


def test_a_win_counts_on_either_side_and_a_tie_is_half_a_win():
    rows = [
        judged(i, winner=w, rater=f"r{i}", piece=f"p{i}", swapped=i % 2 == 0)
        for i, w in enumerate(["new", "new", "tie", "old"])
    ]
    assert win_rate(rows, version="new", champion="old", level=0.95).rate == 0.625
    assert win_rate(rows, version="old", champion="new", level=0.95).rate == 0.375


def test_clustered_votes_give_a_wider_interval_than_independent_ones():
    values = [1.0] * 50 + [0.0] * 50
    independent = cluster_error(values, [str(i) for i in range(100)], level=0.95)
    clustered = cluster_error(values, [str(i // 10) for i in range(100)], level=0.95)
    assert clustered > 2 * independent
    assert cluster_error(values, ["one"] * 100, level=0.95) == float("inf")


def _promotion(version: str, champion: str, *, promoted: bool) -> Promotion:
    sentence = "chosen 60 % of the time"
    check = PromotionCheck(name="win_rate", passed=promoted, measured=0.6, wanted=0.5, sentence=sentence)
    return Promotion(
        name="infill",
        alias="champion",
        version=version,
        champion=champion,
        promoted=promoted,
        checks=(check,),
        evidence={},
        data="",
        gate={},
        simulated=True,
        decided=datetime.now(UTC),
    )


def test_a_decision_moves_the_alias_is_stored_and_can_be_rolled_back(tmp_path):
    registry = open_registry(Settings(state_dir=tmp_path))
    versions = []
    for text in ("one", "two", "three"):
        (tmp_path / text).write_text(text)
        versions.append(registry.register("infill", tmp_path / text, Lineage()).version)
    one, two, three = versions
    registry.promote("infill", one)
    assert registry.decide(_promotion(two, one, promoted=False)) is None
    assert registry.resolve("infill").version == one
    registry.decide(_promotion(two, one, promoted=True))
    assert registry.resolve("infill").version == two
    with pytest.raises(RegistryError, match=f"is {two} by now"):
        registry.decide(_promotion(three, one, promoted=True))
    assert registry.resolve("infill").version == two
    decisions = registry.promotions("infill")
    assert [each.promoted for each in decisions] == [False, True, True]
    assert decisions[0].reasons == ("chosen 60 % of the time",)
    assert registry.rollback("infill").version == one
    assert len(registry.versions("infill")) == 3
