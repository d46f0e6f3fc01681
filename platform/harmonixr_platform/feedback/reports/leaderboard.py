"""Judgments as the statistics read them: votes that rank models, answers that rate raters. Knows no store and no maths.

A vote is one plain answer between fills of two models. Gold pairs and hidden repeats are there to check raters; they
never count in a ranking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_platform.feedback.records.reader import Judged
from harmonixr_platform.feedback.statistics.connected import Disconnected
from harmonixr_platform.feedback.statistics.quality import Answer
from harmonixr_platform.feedback.statistics.ranking import Standing, rank
from harmonixr_platform.feedback.statistics.votes import FIRST, SECOND, TIE, Vote, win_matrix
from harmonixr_platform.schemas import Candidate, Pair

__all__ = [
    "Disconnected",
    "Standing",
    "Vote",
    "answers_of",
    "entrants",
    "is_vote",
    "standings",
    "vote_of",
    "votes_of",
    "win_matrix",
]

MANY_DRAWS = 200
_OUTCOMES = {"first": FIRST, "second": SECOND, "tie": TIE}
_HOLD = VOCAB.id("HOLD")


def entrants(judged: Judged, *, by_arm: bool = False) -> tuple[str, str]:
    """Return what the answer compares: two model versions, or the two arms of its study (one model may be in both)."""
    if by_arm and judged.comparison.arms is not None:
        return judged.comparison.arms
    return judged.pair.first.model_version, judged.pair.second.model_version


def is_vote(judged: Judged, *, by_arm: bool = False) -> bool:
    """Return whether an answer ranks two models: decided or a tie, of two models, no repeat and no gold pair."""
    first, second = entrants(judged, by_arm=by_arm)
    return judged.outcome in _OUTCOMES and judged.comparison.role == "plain" and first != second


def vote_of(judged: Judged, *, by_arm: bool = False) -> Vote:
    """Return an answer for which `is_vote` holds as a vote."""
    first, second = entrants(judged, by_arm=by_arm)
    return Vote(
        first=first,
        second=second,
        outcome=_OUTCOMES[judged.outcome],
        rater=judged.judgment.rater,
        side=-1 if judged.comparison.swapped else 1,
        notes=_note_ratio(judged.pair),
    )


def votes_of(judged: Sequence[Judged], *, by_arm: bool = False) -> list[Vote]:
    """Return the answers that rank two models (or arms), in their order."""
    return [vote_of(one, by_arm=by_arm) for one in judged if is_vote(one, by_arm=by_arm)]


def answers_of(judged: Sequence[Judged]) -> list[Answer]:
    """Return the answers as the rules on raters see them, in their order."""
    return [
        Answer(
            answer_id=one.judgment.judgment_id,
            rater=one.judgment.rater,
            unit=one.pair.pair_id,
            choice=one.judgment.choice.value,
            outcome=one.outcome,
            expected=one.comparison.expected if one.comparison.role == "gold" else None,
            heard=min(one.judgment.listening.heard_a, one.judgment.listening.heard_b),
            seconds=None
            if one.judgment.simulated
            else (one.judgment.received - one.comparison.created).total_seconds(),
        )
        for one in judged
    ]


def standings(votes: Sequence[Vote], *, draws: int = MANY_DRAWS, seed: int = 0) -> list[Standing]:
    """Return the models, strongest first; empty without votes. Raises Disconnected (see `rank`)."""
    return list(rank(votes, draws=draws, seed=seed).standings) if votes else []


def _note_ratio(pair: Pair) -> float:
    """Return log2 of the first fill's notes over the second's, one more each; 0 where other tokens hide it."""
    if pair.vocabulary_hash != VOCAB.hash:
        return 0.0
    return math.log2((_notes(pair.first) + 1) / (_notes(pair.second) + 1))


def _notes(candidate: Candidate) -> int:
    """Count the notes that a fill's tokens begin: each says its pitch once; one held into the gap is not its own."""
    count = 0
    for window in candidate.tokens:
        for before, token in zip((None, *window), window, strict=False):
            count += token in VOCAB.pitch and before != _HOLD
    return count
