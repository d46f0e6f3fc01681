"""Which raters' answers are in doubt, and why: rules with a version, each a sentence when it speaks. Knows no store.

A rule that changes gets a new version, so that an old flag still says what it meant. Each rule is a test that an
attentive rater fails with a chance of at most 1 in 100 (1 in 1,000 for the first), stated beside it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scipy.special import bdtr

_SOONEST_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as the rules see it: `unit` is the pair, `choice` by side, `outcome` by the pair's candidates.

    `expected` is a gold pair's right outcome; `heard` the share of the fill heard on the side heard less; `seconds` the
    time from showing the pair to its answer, None where it says nothing (a program's).
    """

    answer_id: str
    rater: str
    unit: str
    choice: str
    outcome: str
    expected: str | None = None
    heard: float = 1.0
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Raised:
    """A rule spoke."""

    rule: str
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class RaterQuality:
    """What is known of one rater."""

    rater: str
    answers: int
    decided: int
    side_a: int
    gold: int
    gold_right: int
    repeats: int
    repeats_same: int
    unheard: int
    flags: tuple[Raised, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A named, versioned rule: a sentence when a rater fails it, else nothing."""

    name: str
    version: int
    judge: Callable[[Sequence[Answer]], str | None]


def rate(answers: Sequence[Answer], rules: Sequence[Rule] | None = None) -> list[RaterQuality]:
    """Return the quality of every rater, in the order of their names; `answers` are oldest first."""
    by_rater: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_rater[answer.rater].append(answer)
    return [_rate(rater, by_rater[rater], RULES if rules is None else rules) for rater in sorted(by_rater)]


def repeats_of(answers: Iterable[Answer]) -> list[tuple[str, str]]:
    """Return (first, second) outcomes of every rater and pair answered twice; skips and gold pairs do not count."""
    seen: dict[tuple[str, str], list[str]] = defaultdict(list)
    for answer in answers:
        if answer.outcome != "skip" and answer.expected is None:
            seen[answer.rater, answer.unit].append(answer.outcome)
    return [(outcomes[0], outcomes[1]) for outcomes in seen.values() if len(outcomes) > 1]


def units_of(answers: Iterable[Answer]) -> dict[str, list[str]]:
    """Return each pair's outcomes by different raters (a repeat is not one), skips and gold pairs left out."""
    seen: set[tuple[str, str]] = set()
    units: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        if answer.outcome == "skip" or answer.expected is not None or (answer.rater, answer.unit) in seen:
            continue
        seen.add((answer.rater, answer.unit))
        units[answer.unit].append(answer.outcome)
    return units


def _rate(rater: str, answers: Sequence[Answer], rules: Sequence[Rule]) -> RaterQuality:
    gold = _gold(answers)
    twice = repeats_of(answers)
    choices = Counter(answer.choice for answer in answers)
    return RaterQuality(
        rater=rater,
        answers=len(answers),
        decided=choices["a"] + choices["b"],
        side_a=choices["a"],
        gold=len(gold),
        gold_right=sum(gold),
        repeats=len(twice),
        repeats_same=sum(first == second for first, second in twice),
        unheard=len(_unheard(answers)),
        flags=tuple(
            Raised(rule.name, rule.version, reason) for rule in rules if (reason := rule.judge(answers)) is not None
        ),
    )


def _two_sided(count: int, total: int) -> float:
    """Return the exact two-sided p-value of `count` of `total` tosses of a fair coin."""
    return min(1.0, 2 * float(bdtr(min(count, total - count), total, 0.5)))


def _one_side(answers: Sequence[Answer]) -> str | None:
    """Sides are drawn by a fair coin, so a rater who listens chooses each about half the time (p < 0.001)."""
    choices = Counter(answer.choice for answer in answers)
    decided = choices["a"] + choices["b"]
    if decided < 12 or _two_sided(choices["a"], decided) >= 0.001:
        return None
    return f"chose side a in {choices['a']} of {decided} decided answers"


def _same_answer(answers: Sequence[Answer]) -> str | None:
    """Twenty answers without a choice, all alike."""
    kinds = Counter(answer.choice for answer in answers)
    if len(answers) < 20 or len(kinds) > 1 or set(kinds) <= {"a", "b"}:
        return None
    return f"answered {next(iter(kinds)).replace('_', ' ')} {len(answers)} times and nothing else"


def _gold_failed(answers: Sequence[Answer]) -> str | None:
    """Someone who gets eight gold pairs of ten right does as badly once in a hundred times."""
    gold = _gold(answers)
    if not gold or bdtr(sum(gold), len(gold), 0.8) >= 0.01:
        return None
    return f"got {sum(gold)} of {len(gold)} gold pairs right"


def _inconsistent(answers: Sequence[Answer]) -> str | None:
    """Someone who repeats seven answers of ten does as badly once in a hundred times."""
    twice = repeats_of(answers)
    same = sum(first == second for first, second in twice)
    if not twice or bdtr(same, len(twice), 0.7) >= 0.01:
        return None
    return f"gave the same answer to {same} of {len(twice)} repeated pairs"


def _not_heard(answers: Sequence[Answer]) -> str | None:
    """Half of the answers given after less than half of the fill was heard on one side."""
    unheard = len(_unheard(answers))
    if unheard < 5 or unheard * 2 < len(answers):
        return None
    return f"answered {unheard} of {len(answers)} times before half of the fill was heard on both sides"


def _too_fast(answers: Sequence[Answer]) -> str | None:
    """Half of the answers given sooner than the shortest fills, a second each, can be heard once on both sides."""
    timed = [a for a in answers if a.seconds is not None and a.choice != "skip"]
    fast = sum(a.seconds < _SOONEST_S for a in timed if a.seconds is not None)
    if fast < 5 or fast * 2 < len(timed):
        return None
    return f"answered {fast} of {len(timed)} times within {_SOONEST_S:g} seconds"


RULES = (
    Rule("one_side", 1, _one_side),
    Rule("same_answer", 1, _same_answer),
    Rule("gold_failed", 1, _gold_failed),
    Rule("inconsistent", 1, _inconsistent),
    Rule("not_heard", 1, _not_heard),
    Rule("too_fast", 1, _too_fast),
)


def _gold(answers: Sequence[Answer]) -> list[bool]:
    return [a.outcome == a.expected for a in answers if a.expected is not None and a.outcome != "skip"]


def _unheard(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.choice != "skip" and answer.heard < 0.5]
