"""Rebuild the write path's state in Redis from the records in the object store, after Redis has lost its disk.

Afterwards a repeated judgment is a duplicate as before, a comparison accepts one judgment, shown comparisons can be
judged, tallies and histories are restored, and erased raters stay erased. Records that were in the stream and not yet
moved to the object store are lost.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from harmonixr_platform.feedback.errors import FeedbackError, UnknownPair
from harmonixr_platform.feedback.records.judgments import REMEMBER_S, JudgmentLog, Record
from harmonixr_platform.feedback.records.pairs import PairStore
from harmonixr_platform.feedback.records.reader import read_records
from harmonixr_platform.feedback.records.sides import revealed_models
from harmonixr_platform.schemas import Comparison, Judgment, Retraction
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.stores.streams import RecordStream

_DAY = timedelta(days=1)


def replay(stream: RecordStream, store: ObjectStore, *, now: datetime) -> Counter[str]:
    """Write every record of the store to Redis as at first; return the number of records of each kind.

    It may run repeatedly and beside a running service, and leaves existing state as it is. `refused` counts records
    that are no longer accepted, such as judgments of an erased pair. Raises StoreError; run it again then.
    """
    records = read_records(store)
    oldest = min((record.created for record in records if isinstance(record, Comparison)), default=now)
    # Ids must not expire while the replay still needs them, also for old comparisons.
    remember_s = REMEMBER_S + round((now - oldest + _DAY).total_seconds())
    log = JudgmentLog(stream, replaying=True, remember_s=remember_s)
    comparisons = {record.comparison_id: record for record in records if isinstance(record, Comparison)}
    pairs, done = PairStore(store), Counter[str]()
    for record in records:
        try:
            _write(log, record, comparisons, pairs)
        except FeedbackError:
            done["refused"] += 1
        else:
            done[record.record] += 1
    return done


def _write(log: JudgmentLog, record: Record, comparisons: dict[str, Comparison], pairs: PairStore) -> None:
    if isinstance(record, Comparison):
        a, b = revealed_models(pairs.get(record.pair_id), record)
        log.show(record, model_a=a, model_b=b)
    elif isinstance(record, Judgment):
        if record.comparison_id not in comparisons:
            raise UnknownPair(f"comparison {record.comparison_id} is not in the store")
        log.judge(record, comparisons[record.comparison_id])
    elif isinstance(record, Retraction):
        log.retract(record)
    else:
        log.append(record)
