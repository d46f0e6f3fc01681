"""Errors of comparisons, judgments and studies, with their HTTP status.

PlatformError
└── FeedbackError           400
    ├── BadToken            403
    ├── UnknownComparison   404
    ├── UnknownJudgment     404
    ├── UnknownPair         404
    ├── UnknownPool         404
    ├── AlreadyJudged       409
    ├── StudyComplete       409
    ├── TooSoon             409
    ├── ComparisonExpired   410
    ├── RaterErased         410
    ├── StudyClosed         410
    ├── BadStudy            422
    ├── NoConsent           422
    ├── NotHeard            422
    └── TooMany             429
"""

from __future__ import annotations

from harmonixr_platform.errors import PlatformError


class FeedbackError(PlatformError, status=400):
    """A comparison, judgment or study is not as it must be."""


class BadToken(FeedbackError, status=403):
    """The token or the rater's key does not belong to this comparison."""


class UnknownComparison(FeedbackError, status=404):
    """The comparison does not exist."""


class UnknownJudgment(FeedbackError, status=404):
    """The judgment to retract does not exist."""


class UnknownPair(FeedbackError, status=404):
    """The pair does not exist, or its stored content does not match its id."""


class UnknownPool(FeedbackError, status=404):
    """The pool or study does not exist or has no pairs."""


class AlreadyJudged(FeedbackError, status=409):
    """Another judgment of this comparison was recorded first."""


class StudyComplete(FeedbackError, status=409):
    """The rater has judged all pairs that the study has for them."""


class TooSoon(FeedbackError, status=409):
    """The reported listening time is longer than the time since the pair was shown."""


class ComparisonExpired(FeedbackError, status=410):
    """The judgment arrived after the comparison had expired."""


class RaterErased(FeedbackError, status=410):
    """The rater was erased; nothing more is recorded under their key."""


class StudyClosed(FeedbackError, status=410):
    """The study has ended."""


class BadStudy(FeedbackError, status=422):
    """A study's definition is not valid, or differs from the one that was started under its name."""


class NoConsent(FeedbackError, status=422):
    """A person's judgment in a study lacks consent to its wording."""


class NotHeard(FeedbackError, status=422):
    """Too little of the fill was heard to judge it."""


class TooMany(FeedbackError, status=429):
    """The rater sent too many requests; `retry_after_s` is the time to wait."""

    retry_after_s: int = 60
