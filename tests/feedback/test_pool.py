"""Which pair is shown next, and with what chance."""

import random
from collections import Counter

import pytest

from harmonixr_platform.feedback.judgments import PairTally
from harmonixr_platform.feedback.pool import choose_pair

PAIRS = ("decided", "close", "fresh")
TALLY = {"decided": PairTally(shown=9, first=9), "close": PairTally(shown=4, first=2, second=2)}


def test_the_pair_known_least_comes_first() -> None:
    for seen, expected in (((), "fresh"), (("fresh",), "close"), (("fresh", "close"), "decided")):
        assert choose_pair(PAIRS, TALLY, seen, rng=random.Random(0), epsilon=0.0).pair_id == expected


def test_the_chance_written_down_is_the_chance_of_being_chosen() -> None:
    rng = random.Random(3)
    chosen = [choose_pair(PAIRS, TALLY, (), rng=rng, epsilon=0.3) for _ in range(6000)]
    counts = Counter(choice.pair_id for choice in chosen)
    for choice in set(chosen):
        assert counts[choice.pair_id] / 6000 == pytest.approx(choice.propensity, abs=0.02)
    assert sum(choice.propensity for choice in set(chosen)) == pytest.approx(1)


def test_equally_unknown_pairs_share_the_chance() -> None:
    rng = random.Random(3)
    chosen = {choose_pair(("x", "y"), {}, (), rng=rng) for _ in range(50)}
    assert {choice.pair_id for choice in chosen} == {"x", "y"}
    assert {choice.propensity for choice in chosen} == {0.5}


def test_a_pair_on_somebodys_screen_yields_to_one_that_is_not() -> None:
    tally = {"shown": PairTally(shown=1), "other": PairTally()}
    assert choose_pair(("shown", "other"), tally, (), rng=random.Random(0), epsilon=0.0).pair_id == "other"


def test_when_all_were_seen_any_may_come_again() -> None:
    assert choose_pair(("x",), {}, ("x",), rng=random.Random(0)).pair_id == "x"
