"""Looking after every answer does not spoil the error, and stopping comes."""

import math

import numpy as np
import pytest

from harmonixr_platform.feedback.statistics.panel import Panel, sample_votes
from harmonixr_platform.feedback.statistics.stopping import betting_sequence, log_capital, rater_means, verdict

HALF = np.array([0.5])


def test_peeking_after_every_vote_errs_at_most_as_often_as_claimed() -> None:
    """1,000 studies without a difference, each looked at 400 times: at most 5 % (and noise) find one.

    The usual z test, looked at as often, finds one in a third of them.
    """
    rng = np.random.default_rng(0)
    values = rng.choice([0.0, 0.5, 1.0], p=[0.4, 0.2, 0.4], size=(1000, 400))
    found = log_capital(values, HALF)[:, 0].max(axis=1) >= math.log(1 / 0.05)
    assert found.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1000)
    count = np.arange(1, 401)
    mean = values.cumsum(axis=1) / count
    error = np.sqrt(np.maximum((values**2).cumsum(axis=1) / count - mean**2, 1e-9) / count)
    peeked = (np.abs(mean - 0.5) / error > 1.96)[:, 20:].any(axis=1)
    assert peeked.mean() > 0.25


def test_a_rater_as_the_unit_keeps_the_promise_that_single_votes_break() -> None:
    """Raters of strong tastes, no difference on average: votes taken one by one stop wrongly, raters' means do not."""
    rng = np.random.default_rng(1)
    panel = Panel({"x": 0.0, "y": 0.0}, taste=1.5)
    wrong_votes = wrong_raters = 0
    for _ in range(150):
        votes = sample_votes(panel, raters=20, each=25, rng=rng)
        scores = [(v.rater, (1.0, 0.0, 0.5)[v.outcome]) for v in votes]
        one_by_one = log_capital(np.array([score for _, score in scores]), HALF)
        by_rater = log_capital(np.array(rater_means(scores, each=25)), HALF)
        wrong_votes += bool(one_by_one.max() >= math.log(20))
        wrong_raters += bool(by_rater.max() >= math.log(20))
    assert wrong_raters / 150 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 150)
    assert wrong_votes / 150 > 0.3


def test_the_interval_only_narrows_and_holds_the_mean() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(60):
        found = betting_sequence(list(rng.binomial(1, 0.62, size=200).astype(float)))
        assert (np.diff(found.low_T) >= 0).all()
        assert (np.diff(found.high_T) <= 0).all()
        held += bool(found.low_T[-1] <= 0.62 <= found.high_T[-1])
    assert held >= 54


def test_a_clear_winner_is_found_and_its_interval_is_not_wide() -> None:
    rng = np.random.default_rng(3)
    found = betting_sequence(list(rng.binomial(1, 0.7, size=400).astype(float)))
    assert found.low_T[-1] > 0.5
    assert found.high_T[-1] - found.low_T[-1] < 0.2
    assert betting_sequence([1.0] * 30).low_T[-1] > 0.75
    assert betting_sequence([0.0] * 30).high_T[-1] < 0.25


def test_each_rater_counts_once_and_only_when_done() -> None:
    scores = [("r", 1.0), ("s", 0.0), ("r", 0.0), ("r", 1.0), ("s", 0.5)]
    assert rater_means(scores, each=2) == [0.5, 0.25]
    assert rater_means(scores, each=3) == pytest.approx([2 / 3])


def test_verdicts() -> None:
    assert verdict(0.51, 0.9, margin=0.05) == "first"
    assert verdict(0.1, 0.49, margin=0.05) == "second"
    assert verdict(0.46, 0.54, margin=0.05) == "equal"
    assert verdict(0.4, 0.54, margin=0.05) == "go_on"
