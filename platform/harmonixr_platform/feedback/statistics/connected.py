"""Which models can be ranked against each other: the graph of comparisons. Knows nothing of strengths.

Two models without a chain of comparisons between them have no difference that the votes could tell. Within a chain the
maximum of the likelihood is finite only if each model beat (or tied with) another across every split (Ford, "Solution
of a ranking problem from binary comparisons", Amer. Math. Monthly 64, 1957).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.statistics.votes import FIRST, SECOND, Vote, models_of


class Disconnected(FeedbackError):
    """The votes cannot rank all models: nothing compares one group with another."""

    status = 409


def separate_groups(votes: Sequence[Vote]) -> list[tuple[str, ...]]:
    """Return the groups of models that no comparison joins, largest first; one group means that all can be ranked."""
    beside: dict[str, set[str]] = {model: set() for model in models_of(votes)}
    for vote in votes:
        beside[vote.first].add(vote.second)
        beside[vote.second].add(vote.first)
    groups: list[tuple[str, ...]] = []
    left = set(beside)
    while left:
        group = _reached(min(left), beside)
        groups.append(tuple(sorted(group)))
        left -= group
    return sorted(groups, key=lambda group: (-len(group), group))


def undefeated(votes: Sequence[Vote]) -> tuple[str, ...]:
    """Return a set of models that never lost to nor tied with the others, or nothing.

    Their strength above the others is bounded by the fit's pull only, not by the votes.
    """
    models = models_of(votes)
    lost_to: dict[str, set[str]] = {model: set() for model in models}
    for vote in votes:
        if vote.outcome != FIRST:
            lost_to[vote.first].add(vote.second)
        if vote.outcome != SECOND:
            lost_to[vote.second].add(vote.first)
    for model in models:
        above = _reached(model, lost_to)
        if len(above) < len(models):
            return tuple(sorted(above))
    return ()


def _reached(start: str, edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        for other in edges[waiting.pop()]:
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen
