"""Show a pair to a rater: which side is which, who asked, until when. Knows no store."""

from __future__ import annotations

import random
import re
import secrets
from datetime import datetime, timedelta

from harmonixr_platform.feedback.studies.scheduler import Option
from harmonixr_platform.schemas import Comparison, Pair

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
    study: str | None = None,
    arms: tuple[str, str] | None = None,
    option: Option | None = None,
) -> Comparison:
    """Return one presentation of a pair. Without a pool it is the rater's own gap.

    Sides are drawn by a fair coin, but for a repeat: there they are the other way round than the first time.
    """
    option = option or Option(pair.pair_id)
    return Comparison(
        comparison_id=secrets.token_hex(16),
        pair_id=pair.pair_id,
        rater=rater,
        swapped=rng.random() < 0.5 if option.swapped_then is None else not option.swapped_then,
        propensity=propensity,
        source="own_prompt" if pool is None else "study",
        pool=pool,
        study=study,
        arms=arms,
        role=option.role,
        expected=option.expected,
        repeats=option.repeats,
        created=now,
        expires=now + ttl,
    )


def could_be_comparison_id(text: str) -> bool:
    """Return whether this could be an id that `make_comparison` gave."""
    return _ID.fullmatch(text) is not None
