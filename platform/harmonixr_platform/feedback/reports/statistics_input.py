"""Convert judgments to the input of the statistics: votes that rank models, and judgments that rate raters.

A vote is a judgment of a plain pair with fills of two models. Gold pairs and repeats check raters and never count in a
ranking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_platform.feedback.records.reader import JudgedPair
from harmonixr_platform.feedback.statistics.quality import RaterJudgment
from harmonixr_platform.feedback.statistics.votes import FIRST, SECOND, TIE, Vote
from harmonixr_platform.schemas import Candidate, Pair

_OUTCOMES = {"first": FIRST, "second": SECOND, "tie": TIE}
_HOLD = VOCAB.id("HOLD")


def compared(judged: JudgedPair, *, by_arm: bool = False) -> tuple[str, str]:
    """Return the two compared model versions, or the two arms of the study (one model may have both)."""
    if by_arm and judged.comparison.arms is not None:
        return judged.comparison.arms
    return judged.pair.first.model_version, judged.pair.second.model_version


def vote_of(judged: JudgedPair, *, by_arm: bool = False) -> Vote | None:
    """Return the vote of a judgment; None unless it is a win or tie between different models in a plain pair."""
    first, second = compared(judged, by_arm=by_arm)
    if judged.outcome not in _OUTCOMES or judged.comparison.role != "plain" or first == second:
        return None
    return Vote(
        first=first,
        second=second,
        outcome=_OUTCOMES[judged.outcome],
        rater=judged.judgment.rater,
        side=-1 if judged.comparison.swapped else 1,
        notes=_note_ratio(judged.pair),
    )


def votes_of(judged: Sequence[JudgedPair], *, by_arm: bool = False) -> list[Vote]:
    """Return the votes between models (or arms), in the order of the judgments."""
    return [vote for one in judged if (vote := vote_of(one, by_arm=by_arm)) is not None]


def rater_judgments(judged: Sequence[JudgedPair]) -> list[RaterJudgment]:
    """Return the input of the quality rules, in the order of the judgments."""
    return [
        RaterJudgment(
            judgment_id=one.judgment.judgment_id,
            rater=one.judgment.rater,
            pair_id=one.pair.pair_id,
            choice=one.judgment.choice.value,
            outcome=one.outcome,
            expected=one.comparison.expected if one.comparison.role == "gold" else None,
            heard=min(one.judgment.listening.heard_a, one.judgment.listening.heard_b),
            seconds=None if one.judgment.simulated else one.seconds,
        )
        for one in judged
    ]


def _note_ratio(pair: Pair) -> float:
    """Return log2 of the ratio of the fills' note counts, one added to each; 0 for another vocabulary."""
    if pair.vocabulary_hash != VOCAB.hash:
        return 0.0
    return math.log2((_notes(pair.first) + 1) / (_notes(pair.second) + 1))


def _notes(candidate: Candidate) -> int:
    """Count the notes that begin in a fill: one pitch token each, except for a note held from before the gap."""
    count = 0
    for window in candidate.tokens:
        for before, token in zip((None, *window), window, strict=False):
            count += token in VOCAB.pitch and before != _HOLD
    return count
