"""Intervals over raters have about their nominal coverage; the i.i.d. bootstrap does not."""

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from harmonixr_platform.feedback.statistics.fit import fit
from harmonixr_platform.feedback.statistics.intervals import METHODS, Method, intervals
from harmonixr_platform.feedback.statistics.panel import Panel, sample_votes
from harmonixr_platform.feedback.statistics.ranking import rank
from harmonixr_platform.feedback.statistics.votes import Vote, design

# Two equal models: for any spread of tastes, the population's difference is zero by symmetry.
PANEL = Panel({"x": 0.0, "y": 0.0}, taste=0.5, side=0.3, side_spread=0.3)


def _coverage(method: Method, *, panels: int, seed: int, draws: int = 100) -> float:
    rng = np.random.default_rng(seed)
    held = 0
    for trial in range(panels):
        table = design(sample_votes(PANEL, raters=8, each=40, rng=rng))
        contrast = table.difference("x", "y")
        at = intervals(table, fit(table), contrast, method=method, resamples=draws, seed=trial)
        assert at is not None
        held += bool(at.low_K[0] <= 0 <= at.high_K[0])
    return held / panels


@pytest.mark.parametrize("method", ["jackknife", "sandwich"])
def test_intervals_over_eight_raters_have_their_nominal_coverage(method: Method) -> None:
    assert 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / 120) <= _coverage(method, panels=120, seed=0) <= 0.995


def test_the_iid_bootstrap_covers_far_less_than_it_claims() -> None:
    assert _coverage("iid_bootstrap", panels=40, seed=1) < 0.85


def test_the_methods_agree_where_raters_are_alike_and_many() -> None:
    panel = Panel({"x": 0.4, "y": 0.0, "z": -0.4})
    table = design(sample_votes(panel, raters=100, each=20, rng=np.random.default_rng(2)))
    found = fit(table)
    widths = []
    for method in METHODS:
        at = intervals(table, found, table.strengths_MP, method=method, resamples=400)
        assert at is not None
        widths.append(at.high_K - at.low_K)
    assert np.max(widths, axis=0) == pytest.approx(np.min(widths, axis=0), rel=0.3)


def test_the_one_step_jackknife_is_close_to_leaving_raters_out_one_by_one() -> None:
    votes = sample_votes(PANEL, raters=10, each=40, rng=np.random.default_rng(3))
    table = design(votes)
    contrast = table.difference("x", "y")
    weight_DN = np.stack([table.count_N * (table.rater_N != g) for g in range(10)])
    left_out = (fit(table, weight_DN=weight_DN).value_DP @ contrast.T)[:, 0]
    error = math.sqrt(9 / 10 * ((left_out - left_out.mean()) ** 2).sum())
    at = intervals(table, fit(table), contrast)
    assert at is not None
    assert (at.high_K - at.low_K)[0] / 2 == pytest.approx(stdtrit(9, 0.975) * error, rel=0.05)


def test_a_rater_with_most_of_the_votes_counts_for_few() -> None:
    """Eight raters, one with sixteen times the votes of the others: the jackknife's t is that of fewer than three."""
    rng = np.random.default_rng(7)
    held, widths = 0, []
    for each in ([40] * 8, [10] * 7 + [160]):
        table = design(sample_votes(Panel({"x": 0.0, "y": 0.0}), raters=8, each=each, rng=rng))
        at = intervals(table, fit(table), table.difference("x", "y"))
        usual = intervals(table, fit(table), table.difference("x", "y"), method="sandwich")
        assert at is not None
        assert usual is not None
        widths.append(float((at.high_K - at.low_K)[0] / (usual.high_K - usual.low_K)[0]))
    assert widths[0] == pytest.approx(1, abs=0.1)
    assert widths[1] > 1.5
    for _ in range(80):
        table = design(sample_votes(PANEL, raters=8, each=rng.choice([10, 40, 160], 8).tolist(), rng=rng))
        at = intervals(table, fit(table), table.difference("x", "y"))
        assert at is not None
        held += bool(at.low_K[0] <= 0 <= at.high_K[0])
    assert held / 80 >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / 80)


def test_one_rater_gives_no_interval_over_raters() -> None:
    table = design([Vote("x", "y", i % 2, "r", side=(-1) ** (i // 2)) for i in range(20)])
    assert intervals(table, fit(table), table.strengths_MP) is None


def test_a_side_habit_is_found_and_does_not_reach_the_strengths() -> None:
    votes = sample_votes(Panel({"x": 0.0, "y": 0.0}, side=0.8), raters=20, each=60, rng=np.random.default_rng(4))
    found = rank(votes, resamples=20)
    assert found.side is not None
    assert found.side.value == pytest.approx(0.8, abs=0.2)
    assert found.side.low is not None
    assert found.side.low > 0.4
    assert abs(found.standings[0].strength) < 0.2


def test_a_model_that_only_plays_more_notes_is_not_better_at_equal_notes() -> None:
    """Raters like notes, x plays twice as many as y, and that is all: x leads, but not at equal note counts."""
    rng = np.random.default_rng(5)
    votes = []
    for vote in sample_votes(Panel({"x": 0.0, "y": 0.0}), raters=20, each=60, rng=rng):
        notes = float(rng.normal(1, 1))
        outcome = int(rng.random() > 1 / (1 + math.exp(-0.8 * notes)))
        votes.append(Vote("x", "y", outcome, vote.rater, side=vote.side, notes=notes))
    found = rank(votes, resamples=20)
    assert found.standings[0].model == "x"
    assert found.standings[0].low is not None
    assert found.standings[0].low > 0
    level = {standing.model: standing for standing in found.at_equal_notes}["x"]
    assert level.low is not None
    assert level.high is not None
    assert level.low < 0 < level.high
    assert found.notes is not None
    assert found.notes.value == pytest.approx(0.8, abs=0.15)
