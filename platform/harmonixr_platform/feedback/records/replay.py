"""Rebuild in Redis what the write path remembers, from the records in the object store. Knows no command line.

For a Redis that was lost with its disk. Afterwards an answer that is sent again is a duplicate as before, a comparison
takes one judgment, shown comparisons can be answered, tallies and histories stand, whoever was erased stays erased.
Records that were in the stream and not yet carried are lost with that disk: nothing can bring them back.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from harmonixr_platform.feedback.errors import FeedbackError, UnknownPair
from harmonixr_platform.feedback.records.judgments import REMEMBER_S, JudgmentLog
from harmonixr_platform.feedback.records.pairs import PairStore
from harmonixr_platform.feedback.records.reader import Record, read_records
from harmonixr_platform.feedback.records.sides import revealed_models
from harmonixr_platform.schemas import Comparison, Judgment, Retraction
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.stores.streams import RecordStream

_DAY = timedelta(days=1)


def replay(stream: RecordStream, store: ObjectStore, *, now: datetime) -> Counter[str]:
    """Write every record of the store to Redis as it was written first; return how many were of which kind.

    May be run again, and beside a running service: what Redis has is left as it is. `refused` counts records that it
    takes no more, such as answers to a pair that was erased. Raises StoreError; run it again then.
    """
    records = read_records(store)
    oldest = min((record.created for record in records if isinstance(record, Comparison)), default=now)
    # Nothing may be forgotten while the replay still needs it, however long ago it was shown.
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
