"""Agreement against the published example, and raters who do not listen are found."""

import random
from typing import Any

import pytest

from harmonixr_platform.feedback.statistics.agreement import alpha_with_interval, repeat_consistency
from harmonixr_platform.feedback.statistics.quality import RaterJudgment, rate, repeats_of, units_of

# Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C: four observers, twelve units.
PUBLISHED = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]


def _alpha(units: dict[Any, list[str]]) -> float | None:
    found = alpha_with_interval(units, resamples=1)
    return None if found is None else found.value


def test_alpha_is_the_published_one() -> None:
    columns = zip(*(row.split() for row in PUBLISHED), strict=True)
    units = {i: [value for value in column if value != "."] for i, column in enumerate(columns)}
    assert _alpha(units) == pytest.approx(0.743, abs=0.0005)


def test_alpha_of_two_observers_is_the_published_one() -> None:
    """Section A of the same paper: two observers, ten units, binary, no missing data: 0.095."""
    one, other = ["0", "1", "0", "0", "0", "0", "0", "0", "1", "0"], ["1", "1", "1", "0", "0", "1", "0", "0", "0", "0"]
    units = {i: list(values) for i, values in enumerate(zip(one, other, strict=True))}
    assert _alpha(units) == pytest.approx(0.095, abs=0.0005)


def test_alpha_is_one_in_agreement_about_zero_by_chance_and_undefined_without_overlap() -> None:
    assert _alpha({"x": ["a", "a"], "y": ["b", "b"]}) == 1
    rng = random.Random(0)
    random_answers = {i: [rng.choice("ab") for _ in range(3)] for i in range(500)}
    found = alpha_with_interval(random_answers, resamples=100)
    assert found is not None
    assert found.low < 0 < found.high
    assert _alpha({"x": ["a"], "y": ["b"]}) is None
    assert _alpha({"x": ["a", "a"], "y": ["a", "a"]}) is None


def test_repeats_give_the_noise_that_explains_them() -> None:
    """A tenth of answers turned at random reverses 18 of 100 repeated pairs: 2 · 0.1 · 0.9."""
    twice = (
        [("first", "first")] * 41 + [("second", "second")] * 41 + [("first", "second")] * 18 + [("tie", "first")] * 5
    )
    found = repeat_consistency(twice)
    assert found is not None
    assert (found.repeats, found.same, found.decided, found.reversed_) == (105, 82, 100, 18)
    assert found.noise == pytest.approx(0.1)
    assert repeat_consistency([]) is None


def _answers(rater: str, count: int, **more: object) -> list[RaterJudgment]:
    rng = random.Random(rater)
    kept = []
    for i in range(count):
        choice = rng.choice("ab")
        content = {
            "judgment_id": f"{rater}-{i}",
            "rater": rater,
            "pair_id": f"u{i}",
            "choice": choice,
            "outcome": "first",
        }
        kept.append(RaterJudgment(**(content | more)))  # type: ignore[arg-type]
    return kept


@pytest.mark.parametrize(
    ("answers", "rule"),
    [
        (_answers("always-a", 15, choice="a"), "one_side"),
        (_answers("always-b", 15, choice="b"), "one_side"),
        (_answers("tied", 20, choice="tie", outcome="tie"), "same_answer"),
        (_answers("wrong", 8, outcome="second", expected="first"), "gold_failed"),
        (
            _answers("fickle", 6, outcome="first") + _answers("fickle", 6, outcome="second"),
            "inconsistent",
        ),
        (_answers("hasty", 8, heard=0.2), "not_heard"),
        (_answers("quick", 8, seconds=1.2), "too_fast"),
    ],
)
def test_an_inattentive_rater_is_flagged(answers: list[RaterJudgment], rule: str) -> None:
    (found,) = rate(answers)
    assert [(flag.rule, flag.version) for flag in found.flags] == [(rule, 1)]


def test_honest_raters_are_hardly_ever_flagged() -> None:
    """Fair sides, nine gold pairs of ten right, eight repeats of ten the same: two flags in 200 raters at most."""
    rng = random.Random(3)
    answers = []
    for r in range(200):
        rater = f"r{r:03}"
        for i in range(60):
            gold = i % 6 == 0
            # Every fifth pair of the second half was heard in the first.
            unit = f"u{i - 30 if i >= 30 and i % 5 == 1 else i}"
            before = next((a.outcome for a in answers[-60:] if (a.rater, a.pair_id) == (rater, unit)), None)
            outcome = rng.choice(["first", "second"])
            if gold:
                outcome = "first" if rng.random() < 0.9 else "second"
            elif before and rng.random() < 0.8:
                outcome = before
            answers.append(
                RaterJudgment(f"{r}-{i}", rater, unit, rng.choice("ab"), outcome, expected="first" if gold else None)
            )
    assert sum(bool(quality.flags) for quality in rate(answers)) <= 4


def test_repeats_skips_and_gold_pairs_are_no_second_opinion() -> None:
    answers = [
        RaterJudgment("1", "r", "u", "a", "first"),
        RaterJudgment("2", "r", "u", "b", "second"),
        RaterJudgment("3", "s", "u", "skip", "skip"),
        RaterJudgment("4", "t", "u", "a", "tie"),
        RaterJudgment("5", "t", "g", "a", "first", expected="first"),
    ]
    assert units_of(answers) == {"u": ["first", "tie"]}
    assert repeats_of(answers) == [("first", "second")]
