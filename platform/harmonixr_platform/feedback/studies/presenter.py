"""Choose the next pair for a rater of a study or a pool, and make the comparison that shows it.

A pool outside any study has no quotas, gold pairs or repeats; a rater may judge its pairs again.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from harmonixr_platform.feedback.errors import StudyClosed
from harmonixr_platform.feedback.records.judgments import JudgmentLog
from harmonixr_platform.feedback.records.pools import PoolStore
from harmonixr_platform.feedback.studies.definition import Gold, Quotas, Repeats, Scheduling
from harmonixr_platform.feedback.studies.scheduler import Rules, ScheduledPair, SchedulerState, schedule
from harmonixr_platform.feedback.studies.store import BegunStudy, GoldPair, StudyPair, StudyStore
from harmonixr_platform.schemas import Comparison, RaterProgress
from harmonixr_platform.stores.errors import StoreUnavailable

# Pools and studies change rarely, and S3 is slow.
_CACHE_S = 10.0
_POOL_RULES = Rules(
    quotas=Quotas(raters_per_pair=1),
    repeats=Repeats(share=0),
    gold=Gold(share=0),
    scheduling=Scheduling(),
    again=True,
)


@dataclass(frozen=True, slots=True)
class NextPair:
    """The pair to show next, with its study's version, its arms and the rater's progress if it is of a study.

    `presentations` is the number of the pool's pairs that the rater was shown before; None for the rater's own gap.
    """

    scheduled: ScheduledPair
    presentations: int | None = None
    study: str | None = None
    arms: tuple[str, str] | None = None
    progress: RaterProgress | None = None


@dataclass(frozen=True, slots=True)
class _PoolContents:
    """The pairs of a pool and the study that it belongs to."""

    pairs: Sequence[StudyPair]
    gold: Sequence[GoldPair] = ()
    arms: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    begun: BegunStudy | None = None
    end_reason: str | None = None


class Presenter:
    """Chooses pairs for raters. Thread-safe."""

    def __init__(self, log: JudgmentLog, *, pools: PoolStore, studies: StudyStore) -> None:
        self._log = log
        self._pools = pools
        self._studies = studies
        self._cache: dict[str, tuple[float, _PoolContents]] = {}

    def next(self, pool: str, rater: str, *, now: datetime, rng: random.Random) -> NextPair:
        """Return the rater's next pair; raise UnknownPool, StudyComplete or StudyClosed."""
        contents = self._contents(pool)
        if contents.end_reason is not None:
            raise StudyClosed(f"this study has ended: {contents.end_reason}; thank you")
        history = self._log.history(pool, rater)
        state = SchedulerState(
            pairs=contents.pairs,
            gold=contents.gold,
            tally=self._log.tally(pool),
            history=history,
            now_ms=round(now.timestamp() * 1000),
        )
        if contents.begun is None:
            return NextPair(schedule(state, _POOL_RULES, rng=rng), len(history))
        study = contents.begun.study
        rules = Rules(
            quotas=study.quotas,
            repeats=study.repeats,
            gold=study.gold,
            scheduling=study.scheduling,
            most_judgments=study.stopping.most_judgments,
        )
        progress = RaterProgress(done=len(history), total=max(study.quotas.per_rater, len(history)))
        scheduled = schedule(state, rules, rng=rng)
        arms = contents.arms.get(scheduled.option.pair_id)
        return NextPair(scheduled, len(history), study.version, arms, progress)

    def consent_version(self, pool: str) -> str | None:
        """Return the consent version that a study requires; None if any version is accepted."""
        begun = self._contents(pool).begun
        return None if begun is None else begun.study.consent

    def _contents(self, pool: str) -> _PoolContents:
        read_at, contents = self._cache.get(pool, (0.0, None))
        if contents is None or time.monotonic() - read_at > _CACHE_S:
            try:
                contents = self._read(pool)
            except StoreUnavailable:
                # A study continues from the cache while the object store is unavailable.
                if contents is None:
                    raise
            self._cache[pool] = (time.monotonic(), contents)
        return contents

    def _read(self, pool: str) -> _PoolContents:
        begun = self._studies.get(pool)
        if begun is None:
            # Without arms, the uncertainty of a pair depends on its own judgments only.
            ids = self._pools.pair_ids(pool)
            return _PoolContents([StudyPair(pair_id=pair_id, first="", second="") for pair_id in ids])
        end = self._studies.closed(pool)
        return _PoolContents(
            pairs=begun.pairs,
            gold=begun.gold,
            arms={pair.pair_id: (pair.first, pair.second) for pair in begun.pairs},
            begun=begun,
            end_reason=None if end is None else end.reason,
        )


def make_comparison(
    scheduled: ScheduledPair,
    *,
    rater: str,
    pool: str | None,
    now: datetime,
    ttl: timedelta,
    rng: random.Random,
    study: str | None = None,
    arms: tuple[str, str] | None = None,
) -> Comparison:
    """Return one presentation of a pair; without a pool it is of the rater's own gap.

    A fair coin decides the sides. A repeat has the sides of the first presentation swapped.
    """
    option = scheduled.option
    return Comparison(
        comparison_id=secrets.token_hex(16),
        pair_id=option.pair_id,
        rater=rater,
        swapped=rng.random() < 0.5 if option.swapped_before is None else not option.swapped_before,
        propensity=scheduled.propensity,
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
