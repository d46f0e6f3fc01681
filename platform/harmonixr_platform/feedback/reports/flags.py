"""What the rules say of raters, as records: a flag on each judgment of a rater in doubt. Knows no Redis.

A flag names its rule and the rule's version, and is made again under the same id: recording twice records once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from harmonixr_platform.feedback.records.judgments import Recorded
from harmonixr_platform.feedback.records.reader import Feedback
from harmonixr_platform.feedback.reports.leaderboard import answers_of
from harmonixr_platform.feedback.statistics.quality import RULES, rate
from harmonixr_platform.schemas import Flag

_CURRENT = {rule.name: rule.version for rule in RULES}


class FlagLog(Protocol):
    """Where flags are recorded: `JudgmentLog`."""

    def append(self, record: Flag) -> Recorded:
        """Record a flag; say whether it was there."""
        ...


def flags_of(feedback: Feedback, *, now: datetime) -> list[Flag]:
    """Return a flag for every judgment of every rater that a rule puts in doubt."""
    answers = answers_of(feedback.judged)
    raised = {quality.rater: quality.flags for quality in rate(answers)}
    return [
        Flag(
            flag_id=_flag_id(flag.rule, flag.version, answer.answer_id),
            judgment_id=answer.answer_id,
            rule=flag.rule,
            rule_version=flag.version,
            received=now,
        )
        for answer in answers
        for flag in raised[answer.rater]
    ]


def record_flags(log: FlagLog, flags: Iterable[Flag]) -> int:
    """Record flags; return how many were new."""
    return sum(not log.append(flag).duplicate for flag in flags)


def in_doubt(flags: Iterable[Flag]) -> set[str]:
    """Return the judgments that recorded flags put in doubt.

    A flag of one of our rules counts in the rule's present version only; those of other tools always.
    """
    return {flag.judgment_id for flag in flags if _CURRENT.get(flag.rule, flag.rule_version) == flag.rule_version}


def _flag_id(rule: str, version: int, judgment_id: str) -> str:
    return hashlib.sha256(f"{rule}:{version}:{judgment_id}".encode()).hexdigest()[:32]
