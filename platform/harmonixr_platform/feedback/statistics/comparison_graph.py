"""The graph of comparisons: which models can be ranked against each other.

The difference of two models can be estimated only if a chain of comparisons connects them. The maximum of the
likelihood is finite only if across every split of the models each side won or tied at least once (Ford, "Solution of a
ranking problem from binary comparisons", Amer. Math. Monthly 64, 1957).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.statistics.votes import FIRST, SECOND, Vote, models_of


class Disconnected(FeedbackError, status=409):
    """The votes cannot rank all models: no comparison connects some of them."""


def separate_groups(votes: Sequence[Vote]) -> list[tuple[str, ...]]:
    """Return the connected groups of models, largest first; with one group all models can be ranked."""
    compared: dict[str, set[str]] = {model: set() for model in models_of(votes)}
    for vote in votes:
        compared[vote.first].add(vote.second)
        compared[vote.second].add(vote.first)
    groups: list[tuple[str, ...]] = []
    left = set(compared)
    while left:
        group = _reachable(min(left), compared)
        groups.append(tuple(sorted(group)))
        left -= group
    return sorted(groups, key=lambda group: (-len(group), group))


def undefeated(votes: Sequence[Vote]) -> tuple[str, ...]:
    """Return a set of models that never lost to or tied with the others, or nothing.

    The votes do not bound their strength above the others; only the fit's ridge penalty does.
    """
    models = models_of(votes)
    lost_to: dict[str, set[str]] = {model: set() for model in models}
    for vote in votes:
        if vote.outcome != FIRST:
            lost_to[vote.first].add(vote.second)
        if vote.outcome != SECOND:
            lost_to[vote.second].add(vote.first)
    for model in models:
        above = _reachable(model, lost_to)
        if len(above) < len(models):
            return tuple(sorted(above))
    return ()


def _reachable(start: str, edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        for other in edges[waiting.pop()]:
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen
