"""What a rater is shown next of a study, or of a bare pool: gathers the board and asks the scheduler. Knows no HTTP.

A bare pool is a study without quotas, gold pairs or repeats, of which a rater may hear everything again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from harmonixr_platform.feedback.errors import StudyClosed
from harmonixr_platform.feedback.records.judgments import JudgmentLog
from harmonixr_platform.feedback.records.pools import PoolStore
from harmonixr_platform.feedback.studies.definition import Gold, Quotas, Repeats, Scheduling
from harmonixr_platform.feedback.studies.scheduler import (
    Entry,
    GoldEntry,
    Rules,
    ScheduledPair,
    SchedulerState,
    schedule,
)
from harmonixr_platform.feedback.studies.store import Begun, StudyStore
from harmonixr_platform.schemas import Progress
from harmonixr_platform.stores.errors import StoreUnavailable

# Pools and studies change rarely, and reading one is slow on S3.
_CACHE_S = 10.0
_BARE = Rules(
    quotas=Quotas(raters_per_pair=1),
    repeats=Repeats(share=0),
    gold=Gold(share=0),
    scheduling=Scheduling(),
    again=True,
)


@dataclass(frozen=True, slots=True)
class Next:
    """What to show, under which version of which study, and how far the rater is; a bare pool has neither.

    `heard` is how many presentations of the pool the rater had before; a gap of their own has no such history.
    """

    chosen: ScheduledPair
    heard: int | None = None
    study: str | None = None
    arms: tuple[str, str] | None = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class _Listed:
    """A pool as it was read: its pairs, and the study it belongs to."""

    pairs: Sequence[Entry]
    gold: Sequence[GoldEntry] = ()
    arms: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    begun: Begun | None = None
    closed: str | None = None


class Presenter:
    """Chooses for raters. Safe to use from several threads."""

    def __init__(self, log: JudgmentLog, *, pools: PoolStore, studies: StudyStore) -> None:
        self._log = log
        self._pools = pools
        self._studies = studies
        self._cached: dict[str, tuple[float, _Listed]] = {}

    def next(self, pool: str, rater: str, *, now: datetime, rng: random.Random) -> Next:
        """Return what this rater hears next; raises UnknownPool, StudyComplete, StudyClosed."""
        listed = self._listed(pool)
        if listed.closed is not None:
            raise StudyClosed(f"this study has ended: {listed.closed}; thank you")
        history = self._log.history(pool, rater)
        board = SchedulerState(
            pairs=listed.pairs,
            gold=listed.gold,
            tally=self._log.tally(pool),
            history=history,
            now_ms=round(now.timestamp() * 1000),
        )
        if listed.begun is None:
            return Next(schedule(board, _BARE, rng=rng), len(history))
        study = listed.begun.study
        rules = Rules(
            quotas=study.quotas,
            repeats=study.repeats,
            gold=study.gold,
            scheduling=study.scheduling,
            most_judgments=study.stopping.most_judgments,
        )
        progress = Progress(done=len(history), total=max(study.quotas.per_rater, len(history)))
        chosen = schedule(board, rules, rng=rng)
        return Next(chosen, len(history), study.version, listed.arms.get(chosen.option.pair_id), progress)

    def consent_of(self, pool: str) -> str | None:
        """Return the version of the wording that a study asks people to agree to; None where any will do."""
        begun = self._listed(pool).begun
        return None if begun is None else begun.study.consent

    def _listed(self, pool: str) -> _Listed:
        at, listed = self._cached.get(pool, (0.0, None))
        if listed is None or time.monotonic() - at > _CACHE_S:
            try:
                listed = self._read(pool)
            except StoreUnavailable:
                # A study goes on while the object store is away, by what was last read of it.
                if listed is None:
                    raise
            self._cached[pool] = (time.monotonic(), listed)
        return listed

    def _read(self, pool: str) -> _Listed:
        begun = self._studies.get(pool)
        if begun is None:
            # Without arms to tell apart, each pair's own answers say how much is known of it.
            return _Listed([Entry(pair_id, "", "") for pair_id in self._pools.pair_ids(pool)])
        closed = self._studies.closed(pool)
        return _Listed(
            pairs=[Entry(pair.pair_id, pair.first, pair.second) for pair in begun.pairs],
            gold=[GoldEntry(pair.pair_id, pair.expected) for pair in begun.gold],
            arms={pair.pair_id: (pair.first, pair.second) for pair in begun.pairs},
            begun=begun,
            closed=None if closed is None else closed.reason,
        )
