"""Which pair a rater hears next, and with what chance. Pure: the board, the rules and a source of chance come in.

`chances` is the whole distribution; `schedule` draws from it, so the propensity written down is the exact chance that
this rater, at this moment, was shown this pair in this role. In order:

- a gold pair with the study's share, a repeat with its share, where there is one this rater may get;
- else an open pair. Pairs begun and not yet judged by enough raters come first (the overlap floor), then one that
  nobody has heard, then those heard least. Among these a share ε is uniform and the rest follows what an answer is
  worth (`uncertainty.py`).

A pair on somebody's screen counts as judged until it has stood there too long, so that raters who listen at the same
time get different pairs. Nobody hears a pair twice but as a repeat, sides swapped, some comparisons later.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harmonixr_platform.feedback.errors import StudyClosed, StudyComplete
from harmonixr_platform.feedback.records.judgments import PairTally, Shown
from harmonixr_platform.feedback.studies.definition import Gold, Quotas, Repeats, Scheduling
from harmonixr_platform.feedback.studies.uncertainty import Posterior

Role = Literal["plain", "repeat", "gold"]
Expected = Literal["first", "second", "tie"]

_FRESH = PairTally()


@dataclass(frozen=True, slots=True)
class Entry:
    """A pair of a study and the arms of its two fills."""

    pair_id: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class GoldEntry:
    """A pair whose right answer is known."""

    pair_id: str
    expected: Expected


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """Everything that the choice depends on: the pool, the counts so far, and what this rater was shown, in order."""

    pairs: Sequence[Entry]
    gold: Sequence[GoldEntry]
    tally: Mapping[str, PairTally]
    history: Sequence[Shown]
    now_ms: int


@dataclass(frozen=True, slots=True)
class Rules:
    """The study's part in the choice. `again` lets a rater who has heard everything begin anew."""

    quotas: Quotas
    repeats: Repeats
    gold: Gold
    scheduling: Scheduling
    most_judgments: int | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """A pair in a role; a repeat names the comparison it repeats and which side was which then."""

    pair_id: str
    role: Role = "plain"
    expected: Expected | None = None
    repeats: str | None = None
    swapped_then: bool | None = None


@dataclass(frozen=True, slots=True)
class ScheduledPair:
    """What to show and the chance with which it was chosen."""

    option: Option
    propensity: float


def schedule(board: SchedulerState, rules: Rules, *, rng: random.Random) -> ScheduledPair:
    """Draw what a rater hears next; raise StudyComplete or StudyClosed when there is nothing left to ask them."""
    found = chances(board, rules)
    options = list(found)
    chosen = rng.choices(options, weights=[found[option] for option in options])[0]
    return ScheduledPair(chosen, found[chosen])


def chances(board: SchedulerState, rules: Rules) -> dict[Option, float]:
    """Return every option with its chance; they sum to one. Raises StudyComplete, StudyClosed."""
    judged = sum(tally.judged for tally in board.tally.values())
    if rules.most_judgments is not None and judged >= rules.most_judgments:
        raise StudyClosed(f"this study has the {rules.most_judgments} judgments it asked for; thank you")
    if not rules.again and len(board.history) >= rules.quotas.per_rater:
        raise StudyComplete(f"you have judged the {rules.quotas.per_rater} pairs that this study asks of one listener")
    plain = _plain(board, rules)
    if not plain:
        raise StudyComplete("you have judged every pair there is for you in this study")
    gold, repeats = _gold(board), _repeats(board, rules.repeats)
    gold_share = rules.gold.share if gold else 0.0
    repeat_share = rules.repeats.share if repeats else 0.0
    found: dict[Option, float] = {}
    for options, share in ((gold, gold_share), (repeats, repeat_share)):
        found |= {option: share / len(options) for option in options if share > 0}
    return found | {option: (1 - gold_share - repeat_share) * chance for option, chance in plain.items()}


def _gold(board: SchedulerState) -> list[Option]:
    heard = {shown.pair_id for shown in board.history}
    return [
        Option(entry.pair_id, "gold", expected=entry.expected) for entry in board.gold if entry.pair_id not in heard
    ]


def _repeats(board: SchedulerState, rules: Repeats) -> list[Option]:
    again = {shown.pair_id for shown in board.history if shown.role == "repeat"}
    long_ago = board.history[: max(0, len(board.history) - rules.after)]
    return [
        Option(shown.pair_id, "repeat", repeats=shown.comparison_id, swapped_then=shown.swapped)
        for shown in long_ago
        if shown.role == "plain" and shown.answered and shown.pair_id not in again
    ]


def _plain(board: SchedulerState, rules: Rules) -> dict[Option, float]:
    heard = {shown.pair_id for shown in board.history}
    covered = {
        entry.pair_id: board.tally.get(entry.pair_id, _FRESH).covered(
            board.now_ms, unanswered_ms=rules.scheduling.unanswered_s * 1000
        )
        for entry in board.pairs
    }
    cap = rules.quotas.most_per_pair
    capped = [entry for entry in board.pairs if cap is None or covered[entry.pair_id] < cap]
    unheard = [entry for entry in capped if entry.pair_id not in heard]
    if not unheard and rules.again:
        unheard = capped
    tier = _first_tier(unheard, covered, board.tally, floor=rules.quotas.raters_per_pair)
    if not tier:
        return {}
    worth = _worths(tier, board)
    total, epsilon = sum(worth), rules.scheduling.epsilon
    return {
        Option(entry.pair_id): epsilon / len(tier) + (1 - epsilon) * value / total
        for entry, value in zip(tier, worth, strict=True)
    }


def _first_tier(
    entries: Sequence[Entry], covered: Mapping[str, int], tally: Mapping[str, PairTally], *, floor: int
) -> list[Entry]:
    """Return the pairs that come first: begun but owed raters, else fresh ones, else those covered least."""
    begun = [entry for entry in entries if tally.get(entry.pair_id, _FRESH).shown]
    owed = [entry for entry in begun if covered[entry.pair_id] < floor]
    fresh = [entry for entry in entries if not tally.get(entry.pair_id, _FRESH).shown]
    if owed or fresh:
        return owed or fresh
    least = min((covered[entry.pair_id] for entry in begun), default=0)
    return [entry for entry in begun if covered[entry.pair_id] == least]


def _worths(entries: Sequence[Entry], board: SchedulerState) -> list[float]:
    arms = sorted({arm for entry in board.pairs for arm in (entry.first, entry.second)})
    wins: dict[tuple[str, str], float] = defaultdict(float)
    for entry in board.pairs:
        tally = board.tally.get(entry.pair_id)
        if tally is not None and entry.first != entry.second:
            wins[entry.first, entry.second] += tally.first + tally.tie / 2
            wins[entry.second, entry.first] += tally.second + tally.tie / 2
    posterior = Posterior(arms, wins)
    return [
        posterior.worth(entry.first, entry.second, answers=board.tally.get(entry.pair_id, _FRESH).judged)
        for entry in entries
    ]
