"""Choose a rater's next pair and its probability, as a pure function of state, rules and a random generator.

`chances` returns the whole distribution and `schedule` samples from it. The stored propensity is therefore the exact
probability with which this rater was shown this pair in this role at this moment. The choice, in order:

- with the study's share a gold pair, with its share a repeat, if this rater has one to judge;
- else a plain pair. Pairs that were shown but not yet judged by enough raters come first (the overlap floor), then
  pairs that nobody was shown, then those with the fewest judgments. Among these, a share ε is uniform and the rest is
  proportional to the information that one more judgment gives (`uncertainty.py`).

A pair on a rater's screen counts as judged for a limited time, so that simultaneous raters get different pairs. A rater
is shown a pair again only as a repeat, with the sides swapped, after some other comparisons.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harmonixr_platform.feedback.errors import StudyClosed, StudyComplete
from harmonixr_platform.feedback.records.judgments import PairTally, Presentation
from harmonixr_platform.feedback.studies.definition import Gold, Quotas, Repeats, Scheduling
from harmonixr_platform.feedback.studies.store import GoldPair, StudyPair
from harmonixr_platform.feedback.studies.uncertainty import Posterior

_EMPTY = PairTally()


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """The input of the choice: the pool, the counts so far, and this rater's presentations, oldest first."""

    pairs: Sequence[StudyPair]
    gold: Sequence[GoldPair]
    tally: Mapping[str, PairTally]
    history: Sequence[Presentation]
    now_ms: int

    def judged(self, pair: StudyPair) -> int:
        """Return how many judgments a pair has."""
        return self.tally.get(pair.pair_id, _EMPTY).judged

    @property
    def seen(self) -> set[str]:
        """The pairs that the rater was shown."""
        return {presentation.pair_id for presentation in self.history}


@dataclass(frozen=True, slots=True)
class Rules:
    """The study's scheduling rules. With `again`, a rater who was shown every pair may judge them again."""

    quotas: Quotas
    repeats: Repeats
    gold: Gold
    scheduling: Scheduling
    most_judgments: int | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """A pair in a role. A repeat has the id of the first comparison, and whether its sides were swapped."""

    pair_id: str
    role: Literal["plain", "repeat", "gold"] = "plain"
    expected: Literal["first", "second", "tie"] | None = None
    repeats: str | None = None
    swapped_before: bool | None = None


@dataclass(frozen=True, slots=True)
class ScheduledPair:
    """The chosen option and the probability with which it was chosen."""

    option: Option
    propensity: float


def schedule(state: SchedulerState, rules: Rules, *, rng: random.Random) -> ScheduledPair:
    """Sample a rater's next pair; raise StudyComplete or StudyClosed if there is none."""
    found = chances(state, rules)
    options = list(found)
    chosen = rng.choices(options, weights=[found[option] for option in options])[0]
    return ScheduledPair(chosen, found[chosen])


def chances(state: SchedulerState, rules: Rules) -> dict[Option, float]:
    """Return every option with its probability; they sum to one. Raises StudyComplete, StudyClosed."""
    judged = sum(tally.judged for tally in state.tally.values())
    if rules.most_judgments is not None and judged >= rules.most_judgments:
        raise StudyClosed(f"this study has received the {rules.most_judgments} judgments that it needs; thank you")
    if not rules.again and len(state.history) >= rules.quotas.per_rater:
        raise StudyComplete(f"you have judged the {rules.quotas.per_rater} pairs that this study has for one listener")
    plain = _plain(state, rules)
    if not plain:
        raise StudyComplete("you have judged every pair that this study has for you")
    gold, repeats = _gold(state), _repeats(state, rules.repeats)
    gold_share = rules.gold.share if gold else 0.0
    repeat_share = rules.repeats.share if repeats else 0.0
    found: dict[Option, float] = {}
    for options, share in ((gold, gold_share), (repeats, repeat_share)):
        found |= {option: share / len(options) for option in options if share > 0}
    return found | {option: (1 - gold_share - repeat_share) * chance for option, chance in plain.items()}


def _gold(state: SchedulerState) -> list[Option]:
    seen = state.seen
    return [Option(pair.pair_id, "gold", expected=pair.expected) for pair in state.gold if pair.pair_id not in seen]


def _repeats(state: SchedulerState, rules: Repeats) -> list[Option]:
    repeated = {presentation.pair_id for presentation in state.history if presentation.role == "repeat"}
    long_ago = state.history[: max(0, len(state.history) - rules.after)]
    return [
        Option(before.pair_id, "repeat", repeats=before.comparison_id, swapped_before=before.swapped)
        for before in long_ago
        if before.role == "plain" and before.answered and before.pair_id not in repeated
    ]


def _plain(state: SchedulerState, rules: Rules) -> dict[Option, float]:
    seen, cap = state.seen, rules.quotas.most_per_pair
    unanswered_ms = rules.scheduling.unanswered_s * 1000
    covered = {
        pair.pair_id: state.tally.get(pair.pair_id, _EMPTY).covered(state.now_ms, unanswered_ms=unanswered_ms)
        for pair in state.pairs
    }
    below_cap = [pair for pair in state.pairs if cap is None or covered[pair.pair_id] < cap]
    unseen = [pair for pair in below_cap if pair.pair_id not in seen]
    if not unseen and rules.again:
        unseen = below_cap
    tier = _first_tier(unseen, covered, state.tally, floor=rules.quotas.raters_per_pair)
    if not tier:
        return {}
    information = _information(tier, state)
    total, epsilon = sum(information), rules.scheduling.epsilon
    return {
        Option(pair.pair_id): epsilon / len(tier) + (1 - epsilon) * value / total
        for pair, value in zip(tier, information, strict=True)
    }


def _first_tier(
    pairs: Sequence[StudyPair], covered: Mapping[str, int], tally: Mapping[str, PairTally], *, floor: int
) -> list[StudyPair]:
    """Return the pairs that come first: shown but below the floor, else never shown, else those covered least."""
    shown = [pair for pair in pairs if tally.get(pair.pair_id, _EMPTY).shown]
    below_floor = [pair for pair in shown if covered[pair.pair_id] < floor]
    never_shown = [pair for pair in pairs if not tally.get(pair.pair_id, _EMPTY).shown]
    if below_floor or never_shown:
        return below_floor or never_shown
    least = min((covered[pair.pair_id] for pair in shown), default=0)
    return [pair for pair in shown if covered[pair.pair_id] == least]


def _information(pairs: Sequence[StudyPair], state: SchedulerState) -> list[float]:
    arms = sorted({arm for pair in state.pairs for arm in (pair.first, pair.second)})
    wins: dict[tuple[str, str], float] = defaultdict(float)
    for pair in state.pairs:
        tally = state.tally.get(pair.pair_id)
        if tally is not None and pair.first != pair.second:
            wins[pair.first, pair.second] += tally.first + tally.tie / 2
            wins[pair.second, pair.first] += tally.second + tally.tie / 2
    posterior = Posterior(arms, wins)
    return [posterior.information(pair.first, pair.second, judgments=state.judged(pair)) for pair in pairs]
