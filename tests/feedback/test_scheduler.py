"""Which pair is shown next, in which role, and with what chance."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonixr_platform.feedback.errors import StudyClosed, StudyComplete
from harmonixr_platform.feedback.records.judgments import PairTally, Presentation
from harmonixr_platform.feedback.studies.definition import Gold, Quotas, Repeats, Scheduling
from harmonixr_platform.feedback.studies.scheduler import (
    Option,
    Rules,
    SchedulerState,
    chances,
    schedule,
)
from harmonixr_platform.feedback.studies.store import GoldPair, StudyPair
from harmonixr_platform.feedback.studies.uncertainty import Posterior


def pair_of(pair_id: str, first: str, second: str) -> StudyPair:
    return StudyPair(pair_id=pair_id, first=first, second=second)


NOW = 10_000_000
MINUTE = 60_000
RULES = Rules(
    quotas=Quotas(raters_per_pair=2, per_rater=50),
    repeats=Repeats(share=0.2, after=3),
    gold=Gold(share=0.1),
    scheduling=Scheduling(epsilon=0.1),
)
ENTRIES = [pair_of("xy1", "x", "y"), pair_of("xy2", "x", "y"), pair_of("yz1", "y", "z"), pair_of("yz2", "y", "z")]


def board(
    pairs=tuple(ENTRIES), *, gold=(), history=(), last_ms=NOW - 60 * MINUTE, **judged: tuple[int, int, int]
) -> SchedulerState:
    """A board on which pairs were judged (first, second, tie) times, all of them an hour ago."""
    tally = {
        name: PairTally(shown=sum(counts), first=counts[0], second=counts[1], tie=counts[2], last_ms=last_ms)
        for name, counts in judged.items()
    }
    return SchedulerState(list(pairs), list(gold), tally, list(history), NOW)


def shown(number: int, pair: str = "", role="plain", *, swapped: bool = False, answered: bool = True) -> Presentation:
    return Presentation(f"c{number}", pair or f"other{number}", role, swapped, answered)


def plain(found: dict[Option, float]) -> dict[str, float]:
    return {option.pair_id: chance for option, chance in found.items() if option.role == "plain"}


def test_a_pair_owed_raters_comes_before_any_new_one_is_opened() -> None:
    assert set(plain(chances(board(xy1=(1, 0, 0)), RULES))) == {"xy1"}
    assert set(plain(chances(board(xy1=(1, 1, 0)), RULES))) == {"xy2", "yz1", "yz2"}


def test_a_rater_who_has_judged_the_pair_below_the_floor_gets_a_new_one() -> None:
    found = chances(board(xy1=(1, 0, 0), history=[shown(0, "xy1")]), RULES)
    assert set(plain(found)) == {"xy2", "yz1", "yz2"}


def test_covered_pairs_with_the_fewest_judgments_come_first() -> None:
    full = {"xy1": (2, 1, 0), "xy2": (1, 1, 0), "yz1": (3, 0, 0), "yz2": (2, 0, 0)}
    assert set(plain(chances(board(**full), RULES))) == {"xy2", "yz2"}


def test_a_pair_on_somebodys_screen_counts_as_covered_until_it_has_stood_there_too_long() -> None:
    on_screen = {"xy1": PairTally(shown=2, first=1, last_ms=NOW - MINUTE)}
    now = replace(board(), tally=on_screen)
    assert "xy1" not in plain(chances(now, RULES))
    later = replace(now, now_ms=NOW + 31 * MINUTE)
    assert set(plain(chances(later, RULES))) == {"xy1"}


def test_uncertain_arms_are_shown_more_and_every_open_pair_can_be_chosen() -> None:
    seen = {"a": (6, 5, 0), "b": (5, 6, 0)}
    entries = [pair_of("a", "x", "y"), pair_of("b", "x", "y"), *ENTRIES]
    found = plain(chances(board(entries, **seen), RULES))
    assert set(found) == {"xy1", "xy2", "yz1", "yz2"}
    assert found["yz1"] == found["yz2"] > 1.5 * found["xy1"]
    assert min(found.values()) >= 0.1 / 4


def test_within_an_arm_the_pair_with_fewest_judgments_has_most_information() -> None:
    posterior = Posterior(["x"], {})
    worth = [posterior.information("x", "x", judgments=n) for n in range(5)]
    assert worth == sorted(worth, reverse=True)


def test_the_posterior_narrows_with_judgments_also_along_chains() -> None:
    before = Posterior(["x", "y", "z"], {})
    some = Posterior(["x", "y", "z"], {("x", "y"): 20, ("y", "x"): 20, ("y", "z"): 20, ("z", "y"): 20})
    assert some.deviation("x", "y") < 0.5 * before.deviation("x", "y")
    assert some.deviation("x", "y") < some.deviation("x", "z") < before.deviation("x", "z")
    # Forty judgments between equals have information 40/4 about their difference, and the priors 1/2: 1 / √10.5.
    alone = Posterior(["x", "y"], {("x", "y"): 20, ("y", "x"): 20})
    assert alone.deviation("x", "y") == pytest.approx(10.5**-0.5)


def test_a_repeat_is_of_an_earlier_judged_pair_and_records_its_sides() -> None:
    history = [shown(0, "xy1", swapped=True), shown(1, "xy2", answered=False), *(shown(i) for i in range(2, 5))]
    found = chances(board(history=history), RULES)
    repeats = {option: chance for option, chance in found.items() if option.role == "repeat"}
    assert repeats == {Option("xy1", "repeat", repeats="c0", swapped_before=True): 0.2}
    again = [*history, shown(5, "xy1", role="repeat")]
    assert all(option.pair_id != "xy1" for option in chances(board(history=again), RULES) if option.role == "repeat")


def test_a_gold_pair_comes_with_its_share_and_never_twice() -> None:
    gold = [GoldPair(pair_id="g1", expected="first"), GoldPair(pair_id="g2", expected="tie")]
    found = chances(board(gold=gold), RULES)
    assert found[Option("g1", "gold", expected="first")] == pytest.approx(0.05)
    found = chances(board(gold=gold, history=[shown(0, "g1", role="gold")]), RULES)
    assert [(o.pair_id, c) for o, c in found.items() if o.role == "gold"] == [("g2", 0.1)]
    assert sum(found.values()) == pytest.approx(1)


def test_quotas_caps_and_the_studys_end_are_kept() -> None:
    with pytest.raises(StudyComplete, match="the 50 pairs"):
        chances(board(history=[shown(i) for i in range(50)]), RULES)
    capped = replace(RULES, quotas=Quotas(raters_per_pair=1, most_per_pair=1))
    assert set(plain(chances(board(xy1=(1, 0, 0)), capped))) == {"xy2", "yz1", "yz2"}
    with pytest.raises(StudyComplete, match="every pair"):
        chances(board(history=[shown(i, entry.pair_id) for i, entry in enumerate(ENTRIES)]), RULES)
    with pytest.raises(StudyClosed, match="the 3 judgments"):
        chances(board(xy1=(1, 1, 1)), replace(RULES, most_judgments=3))


def test_a_pool_without_study_may_be_judged_again() -> None:
    bare = replace(RULES, again=True)
    history = [shown(i, entry.pair_id) for i, entry in enumerate(ENTRIES)]
    assert len(plain(chances(board(history=history), bare))) == 4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=4, max_size=4),
    st.lists(st.sampled_from(["xy1", "xy2", "yz1", "g"]), unique=True, max_size=4),
    st.integers(0, 2**32),
)
def test_chances_always_sum_to_one_and_exclude_shown_pairs(counts, heard, seed) -> None:
    history = [shown(i, pair, role="gold" if pair == "g" else "plain") for i, pair in enumerate(heard)]
    now = board(
        gold=[GoldPair(pair_id="g", expected="tie")],
        history=history,
        **{entry.pair_id: count for entry, count in zip(ENTRIES, counts, strict=True)},
    )
    found = chances(now, RULES)
    assert sum(found.values()) == pytest.approx(1)
    assert all(option.role == "repeat" or option.pair_id not in heard for option in found)
    chosen = schedule(now, RULES, rng=random.Random(seed))
    assert chosen.propensity == found[chosen.option] > 0


def test_the_chance_written_down_is_the_chance_of_being_chosen() -> None:
    rng = random.Random(3)
    history = [shown(0, "xy1"), *(shown(i) for i in range(1, 5))]
    now = board(
        gold=[GoldPair(pair_id="g", expected="tie")], history=history, xy2=(5, 5, 5), yz1=(1, 1, 0), yz2=(2, 0, 0)
    )
    drawn = [schedule(now, replace(RULES, scheduling=Scheduling(epsilon=0.3)), rng=rng) for _ in range(2500)]
    counts = Counter(chosen.option for chosen in drawn)
    assert {option.role for option in counts} == {"plain", "repeat", "gold"}
    for chosen in set(drawn):
        assert counts[chosen.option] / 2500 == pytest.approx(chosen.propensity, abs=0.03)


def test_following_uncertainty_learns_more_of_a_rare_arm_than_chance_does() -> None:
    """Ninety pairs of x and y, thirty with z: after the same answers z's place is known better than by even chances."""

    def deviation(epsilon: float) -> float:
        rng = random.Random(11)
        pairs = [pair_of(f"xy{i}", "x", "y") for i in range(90)]
        pairs += [pair_of(f"z{arm}{i}", arm, "z") for arm in "xy" for i in range(15)]
        rules = replace(RULES, quotas=Quotas(raters_per_pair=1), scheduling=Scheduling(epsilon=epsilon))
        tally: dict[str, PairTally] = {}
        wins: Counter[tuple[str, str]] = Counter()
        of = {entry.pair_id: entry for entry in pairs}
        for _ in range(40):
            pair_id = schedule(SchedulerState(pairs, [], tally, [], NOW), rules, rng=rng).option.pair_id
            first_won = rng.random() < 0.5
            tally[pair_id] = PairTally(shown=1, first=int(first_won), second=int(not first_won))
            entry = of[pair_id]
            wins[(entry.first, entry.second) if first_won else (entry.second, entry.first)] += 1
        return Posterior(["x", "y", "z"], wins).deviation("x", "z")

    assert deviation(0.1) < 0.93 * deviation(1.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 6))
def test_the_overlap_floor_holds_however_many_listen_at_once_and_walk_away(seed, floor, raters) -> None:
    """A pair is opened only for a rater who has heard every pair that still lacks raters; nobody hears one twice."""
    rng = random.Random(seed)
    rules = replace(
        RULES,
        quotas=Quotas(raters_per_pair=floor, per_rater=12),
        repeats=Repeats(share=0),
        scheduling=Scheduling(unanswered_s=600),
    )
    pairs = [pair_of(f"p{i}", "x", "y") for i in range(8)]
    tally: dict[str, PairTally] = {}
    history: dict[int, list[Presentation]] = {rater: [] for rater in range(raters)}
    now = NOW
    for number in range(60):
        now += rng.randrange(5 * MINUTE)
        rater = rng.randrange(raters)
        heard = {one.pair_id for one in history[rater]}
        try:
            pair_id = schedule(SchedulerState(pairs, [], tally, history[rater], now), rules, rng=rng).option.pair_id
        except StudyComplete:
            assert heard == {entry.pair_id for entry in pairs}
            continue
        lacking = {p for p, counts in tally.items() if counts.covered(now, unanswered_ms=10 * MINUTE) < floor}
        assert pair_id not in heard
        assert pair_id in lacking or not lacking - heard
        held = tally.get(pair_id, PairTally())
        stays = rng.random() < 0.8
        tally[pair_id] = replace(held, shown=held.shown + 1, first=held.first + int(stays), last_ms=now)
        history[rater].append(shown(number, pair_id, answered=stays))
