"""Versioned rules that flag raters of doubtful quality, each with a reason.

A rule that changes gets a new version, so that the meaning of a stored flag does not change. An attentive rater fails a
rule with a probability of at most 1 in 100 (1 in 1,000 for the first); the rule's docstring has the details.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scipy.special import bdtr

_FASTEST_S = 2.0


@dataclass(frozen=True, slots=True)
class RaterJudgment:
    """A judgment as input of the rules: `choice` is by side, `outcome` by the pair's candidates.

    `expected` is a gold pair's outcome. `heard` is the share of the fill heard on the side that was heard less.
    `seconds` is the time from showing the pair to the judgment, None for a program's judgment.
    """

    judgment_id: str
    rater: str
    pair_id: str
    choice: str
    outcome: str
    expected: str | None = None
    heard: float = 1.0
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RuleFlag:
    """A rule that a rater fails."""

    rule: str
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class RaterQuality:
    """Counts of one rater's judgments, and the rules that the rater fails."""

    rater: str
    answers: int
    decided: int
    side_a: int
    gold: int
    gold_right: int
    repeats: int
    repeats_same: int
    unheard: int
    flags: tuple[RuleFlag, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A named, versioned rule; `judge` returns the reason if a rater fails it, else None."""

    name: str
    version: int
    judge: Callable[[Sequence[RaterJudgment]], str | None]


def rate(judgments: Sequence[RaterJudgment], rules: Sequence[Rule] | None = None) -> list[RaterQuality]:
    """Return the quality of every rater, sorted by name; the judgments are oldest first."""
    by_rater: dict[str, list[RaterJudgment]] = defaultdict(list)
    for judgment in judgments:
        by_rater[judgment.rater].append(judgment)
    return [_rate(rater, by_rater[rater], RULES if rules is None else rules) for rater in sorted(by_rater)]


def repeats_of(judgments: Iterable[RaterJudgment]) -> list[tuple[str, str]]:
    """Return the two outcomes of every rater and pair that was judged twice, without skips and gold pairs."""
    seen: dict[tuple[str, str], list[str]] = defaultdict(list)
    for judgment in judgments:
        if judgment.outcome != "skip" and judgment.expected is None:
            seen[judgment.rater, judgment.pair_id].append(judgment.outcome)
    return [(outcomes[0], outcomes[1]) for outcomes in seen.values() if len(outcomes) > 1]


def units_of(judgments: Iterable[RaterJudgment]) -> dict[str, list[str]]:
    """Return each pair's outcomes, one for each rater, without repeats, skips and gold pairs."""
    seen: set[tuple[str, str]] = set()
    units: dict[str, list[str]] = defaultdict(list)
    for judgment in judgments:
        if judgment.outcome == "skip" or judgment.expected is not None or (judgment.rater, judgment.pair_id) in seen:
            continue
        seen.add((judgment.rater, judgment.pair_id))
        units[judgment.pair_id].append(judgment.outcome)
    return units


def _rate(rater: str, judgments: Sequence[RaterJudgment], rules: Sequence[Rule]) -> RaterQuality:
    gold = _gold(judgments)
    twice = repeats_of(judgments)
    choices = Counter(judgment.choice for judgment in judgments)
    return RaterQuality(
        rater=rater,
        answers=len(judgments),
        decided=choices["a"] + choices["b"],
        side_a=choices["a"],
        gold=len(gold),
        gold_right=sum(gold),
        repeats=len(twice),
        repeats_same=sum(first == second for first, second in twice),
        unheard=len(_unheard(judgments)),
        flags=tuple(
            RuleFlag(rule.name, rule.version, reason) for rule in rules if (reason := rule.judge(judgments)) is not None
        ),
    )


def _two_sided(count: int, total: int) -> float:
    """Return the exact two-sided p-value of `count` of `total` tosses of a fair coin."""
    return min(1.0, 2 * float(bdtr(min(count, total - count), total, 0.5)))


def _one_side(judgments: Sequence[RaterJudgment]) -> str | None:
    """A fair coin decides the sides, so an attentive rater chooses each about half the time (p < 0.001)."""
    choices = Counter(judgment.choice for judgment in judgments)
    decided = choices["a"] + choices["b"]
    if decided < 12 or _two_sided(choices["a"], decided) >= 0.001:
        return None
    return f"chose side a in {choices['a']} of {decided} decided judgments"


def _same_answer(judgments: Sequence[RaterJudgment]) -> str | None:
    """Twenty or more judgments without a choice, all equal."""
    kinds = Counter(judgment.choice for judgment in judgments)
    if len(judgments) < 20 or len(kinds) > 1 or set(kinds) <= {"a", "b"}:
        return None
    return f"judged {next(iter(kinds)).replace('_', ' ')} {len(judgments)} times and nothing else"


def _gold_failed(judgments: Sequence[RaterJudgment]) -> str | None:
    """A rater who judges 80 % of gold pairs correctly fails with a probability of at most 1 in 100."""
    gold = _gold(judgments)
    if not gold or bdtr(sum(gold), len(gold), 0.8) >= 0.01:
        return None
    return f"judged {sum(gold)} of {len(gold)} gold pairs correctly"


def _inconsistent(judgments: Sequence[RaterJudgment]) -> str | None:
    """A rater who repeats 70 % of the judgments fails with a probability of at most 1 in 100."""
    twice = repeats_of(judgments)
    same = sum(first == second for first, second in twice)
    if not twice or bdtr(same, len(twice), 0.7) >= 0.01:
        return None
    return f"judged {same} of {len(twice)} repeated pairs the same"


def _not_heard(judgments: Sequence[RaterJudgment]) -> str | None:
    """Half of the judgments were made after hearing less than half of the fill on one side."""
    unheard = len(_unheard(judgments))
    if unheard < 5 or unheard * 2 < len(judgments):
        return None
    return f"judged {unheard} of {len(judgments)} times before half of the fill was heard on both sides"


def _too_fast(judgments: Sequence[RaterJudgment]) -> str | None:
    """Half of the judgments came before even the shortest fills, one second each, could be heard on both sides."""
    timed = [a for a in judgments if a.seconds is not None and a.choice != "skip"]
    fast = sum(a.seconds < _FASTEST_S for a in timed if a.seconds is not None)
    if fast < 5 or fast * 2 < len(timed):
        return None
    return f"judged {fast} of {len(timed)} times within {_FASTEST_S:g} seconds"


RULES = (
    Rule("one_side", 1, _one_side),
    Rule("same_answer", 1, _same_answer),
    Rule("gold_failed", 1, _gold_failed),
    Rule("inconsistent", 1, _inconsistent),
    Rule("not_heard", 1, _not_heard),
    Rule("too_fast", 1, _too_fast),
)


def _gold(judgments: Sequence[RaterJudgment]) -> list[bool]:
    return [a.outcome == a.expected for a in judgments if a.expected is not None and a.outcome != "skip"]


def _unheard(judgments: Sequence[RaterJudgment]) -> list[RaterJudgment]:
    return [judgment for judgment in judgments if judgment.choice != "skip" and judgment.heard < 0.5]
