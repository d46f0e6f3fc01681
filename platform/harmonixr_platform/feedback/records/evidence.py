"""Check that enough of the fill was heard on both sides, from the intervals that a client reports.

A client can invent intervals, but not time: the reported listening must also fit into the time between showing the pair
and receiving the judgment.
"""

from __future__ import annotations

from collections.abc import Iterable

from harmonixr_platform.feedback.errors import NotHeard, TooSoon
from harmonixr_platform.schemas import Choice, Interval, Listening

# Three quarters of each fill, enough to judge both seams and most of the fill.
MIN_HEARD = 0.75
# A fill that was heard to the end may be reported a few hundredths of a second short.
_ROUNDING = 0.005
_CLOCK_SLACK_S = 1.0


def check_listening(
    listening: Listening, choice: Choice, *, start_s: float, end_s: float, since_shown_s: float, min_heard: float
) -> Listening:
    """Return the evidence with `heard_a` and `heard_b` computed for the gap [start_s, end_s); a skip needs none.

    Raises:
        NotHeard: an interval ends before it begins, or too little of the fill was heard on a side.
        TooSoon: the listening time is longer than the time since the pair was shown.
    """
    for begin, end in (*listening.intervals_a, *listening.intervals_b):
        if end < begin:
            raise NotHeard(f"the interval {begin:g}-{end:g} s ends before it begins; send [from, to] in seconds")
    heard_a, heard_b = (
        covered_s(intervals, start_s=start_s, end_s=end_s)
        for intervals in (listening.intervals_a, listening.intervals_b)
    )
    length_s = end_s - start_s
    checked = listening.model_copy(
        update={"heard_a": min(1.0, heard_a / length_s), "heard_b": min(1.0, heard_b / length_s)}
    )
    if choice is Choice.SKIP:
        return checked
    for side, share in (("a", checked.heard_a), ("b", checked.heard_b)):
        if share + _ROUNDING < min_heard:
            raise NotHeard(
                f"{share:.0%} of the fill was heard on side {side}, and {min_heard:.0%} is required; listen to more "
                f"of seconds {start_s:.1f}-{end_s:.1f}, or skip the pair"
            )
    if heard_a + heard_b > since_shown_s + _CLOCK_SLACK_S:
        raise TooSoon(
            f"{heard_a + heard_b:.1f} s of fills cannot have been heard in the {since_shown_s:.1f} s since the pair "
            "was shown; listen to both sides, then judge"
        )
    return checked


def covered_s(intervals: Iterable[Interval], *, start_s: float, end_s: float) -> float:
    """Return how many seconds of [start_s, end_s) the intervals cover, each second counted once."""
    covered, reached = 0.0, start_s
    for begin, end in sorted(intervals):
        since, until = max(begin, reached), min(end, end_s)
        if until > since:
            covered += until - since
            reached = until
    return covered
