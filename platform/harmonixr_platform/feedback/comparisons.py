"""Show a pair to a rater: which side is which, who asked, until when. Knows no store."""

from __future__ import annotations

import random
import re
import secrets
from datetime import datetime, timedelta

from harmonixr_platform.schemas import Candidate, Comparison, Pair

_ID = re.compile(r"[0-9a-f]{32}")


def make_comparison(
    pair: Pair,
    *,
    rater: str,
    pool: str | None,
    propensity: float,
    now: datetime,
    ttl: timedelta,
    rng: random.Random,
) -> Comparison:
    """Return one presentation of a pair, its sides drawn by a fair coin. Without a pool it is the rater's own gap."""
    return Comparison(
        comparison_id=secrets.token_hex(16),
        pair_id=pair.pair_id,
        rater=rater,
        swapped=rng.random() < 0.5,
        propensity=propensity,
        source="own_prompt" if pool is None else "study",
        pool=pool,
        created=now,
        expires=now + ttl,
    )


def sides(pair: Pair, comparison: Comparison) -> tuple[Candidate, Candidate]:
    """Return the candidates on sides a and b."""
    return (pair.second, pair.first) if comparison.swapped else (pair.first, pair.second)


def could_be_comparison_id(text: str) -> bool:
    """Return whether this could be an id that `make_comparison` gave."""
    return _ID.fullmatch(text) is not None
