"""What can be wrong with a comparison or a judgment; `status` is the HTTP status that says it best.

HarmonixrError
└── FeedbackError
    ├── BadStudy            422  a study's definition cannot be read, or differs from what was begun
    ├── UnknownComparison   404  no such comparison
    ├── UnknownJudgment     404  no such judgment to take back
    ├── UnknownPool         404  no such pool, or an empty one
    ├── UnknownPair         404  no such pair
    ├── BadToken            403  the token or the rater's key does not belong to this comparison
    ├── AlreadyJudged       409  another answer was recorded first
    ├── TooSoon             409  more was heard than time has passed
    ├── StudyComplete       409  this rater has judged all that the study asks of them
    ├── StudyClosed         410  the study has ended
    ├── RaterErased         410  this rater asked to be erased
    ├── ComparisonExpired   410  the answer came too late
    ├── NoConsent           422  a person's answer to a study came without consent to its wording
    ├── NotHeard            422  too little of the fill was heard to judge it
    └── TooMany             429  more requests than one rater makes
"""

from __future__ import annotations

from typing import ClassVar

from harmonixr_model.errors import HarmonixrError


class FeedbackError(HarmonixrError):
    """Something about a comparison or a judgment."""

    status: ClassVar[int] = 400


class UnknownComparison(FeedbackError):
    """No such comparison."""

    status = 404


class UnknownJudgment(FeedbackError):
    """No such judgment to take back."""

    status = 404


class UnknownPool(FeedbackError):
    """No such pool, or an empty one."""

    status = 404


class UnknownPair(FeedbackError):
    """No such pair, or one whose stored form does not match its name."""

    status = 404


class BadToken(FeedbackError):
    """The token or the rater's key does not belong to this comparison."""

    status = 403


class AlreadyJudged(FeedbackError):
    """Another answer was recorded first."""

    status = 409


class ComparisonExpired(FeedbackError):
    """The answer came too late."""

    status = 410


class NotHeard(FeedbackError):
    """Too little of the fill was heard to judge it."""

    status = 422


class NoConsent(FeedbackError):
    """A person's answer to a study came without consent to its wording."""

    status = 422


class TooSoon(FeedbackError):
    """More was heard than time has passed since the pair was shown."""

    status = 409


class BadStudy(FeedbackError):
    """A study's definition cannot be read, or differs from what was begun under its name."""

    status = 422


class StudyComplete(FeedbackError):
    """This rater has judged all that the study asks of them."""

    status = 409


class StudyClosed(FeedbackError):
    """The study has ended."""

    status = 410


class RaterErased(FeedbackError):
    """This rater asked to be erased: nothing more is taken under their key."""

    status = 410


class TooMany(FeedbackError):
    """More requests than one rater makes; `retry_after_s` says when asking again may help."""

    status = 429
    retry_after_s: int = 60
