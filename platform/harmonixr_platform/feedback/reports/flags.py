"""Flags for the judgments of raters who fail a quality rule.

A flag has its rule's version, and its id is derived from rule and judgment, so recording it again changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

from harmonixr_platform.feedback.records.judgments import JudgmentLog
from harmonixr_platform.feedback.records.reader import Feedback
from harmonixr_platform.feedback.reports.statistics_input import rater_judgments
from harmonixr_platform.feedback.statistics.quality import RULES, rate
from harmonixr_platform.schemas import Flag

_VERSIONS = {rule.name: rule.version for rule in RULES}


def flags_of(feedback: Feedback, *, now: datetime) -> list[Flag]:
    """Return a flag for every judgment of every rater who fails a rule."""
    judgments = rater_judgments(feedback.judged)
    failed = {quality.rater: quality.flags for quality in rate(judgments)}
    return [
        Flag(
            flag_id=_flag_id(flag.rule, flag.version, judgment.judgment_id),
            judgment_id=judgment.judgment_id,
            rule=flag.rule,
            rule_version=flag.version,
            received=now,
        )
        for judgment in judgments
        for flag in failed[judgment.rater]
    ]


def record_flags(log: JudgmentLog, flags: Iterable[Flag]) -> int:
    """Record flags; return how many were new."""
    return sum(not log.append(flag).duplicate for flag in flags)


def flagged_judgments(flags: Iterable[Flag]) -> set[str]:
    """Return the ids of flagged judgments.

    A flag of a rule defined here counts only with the rule's present version; flags of other tools always count.
    """
    return {flag.judgment_id for flag in flags if _VERSIONS.get(flag.rule, flag.rule_version) == flag.rule_version}


def _flag_id(rule: str, version: int, judgment_id: str) -> str:
    return hashlib.sha256(f"{rule}:{version}:{judgment_id}".encode()).hexdigest()[:32]
