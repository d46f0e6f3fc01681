"""The writing side of feedback: every record goes through `record.lua`, once. Knows nothing of music or HTTP.

What is written here is on disk when a call returns. A call that raises StoreUnavailable may have been carried out:
send it again with the same ids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from harmonixr_platform.feedback.errors import (
    AlreadyJudged,
    BadToken,
    ComparisonExpired,
    UnknownComparison,
    UnknownJudgment,
)
from harmonixr_platform.schemas import Comparison, Flag, Judgment, Retraction, Tombstone
from harmonixr_platform.stores.streams import RecordStream

# Ids are remembered this long after a comparison's end. A later repeat finds no comparison: 404, never stored twice.
REMEMBER_S = 90 * 86_400


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a write, and which models stood on the two sides (empty for a retraction)."""

    duplicate: bool
    model_a: str
    model_b: str


@dataclass(frozen=True, slots=True)
class PairTally:
    """How often a pair was shown, and how its judgments fell."""

    shown: int = 0
    first: int = 0
    second: int = 0
    tie: int = 0


class JudgmentLog:
    """Comparisons, judgments and what takes them back, in one stream."""

    def __init__(self, stream: RecordStream) -> None:
        self._stream = stream
        self._script = files("harmonixr_platform.feedback").joinpath("record.lua").read_text()

    def show(self, comparison: Comparison, *, model_a: str, model_b: str) -> None:
        """Record that a pair is shown to a rater; a judgment needs it."""
        expires_ms = str(_milliseconds(comparison.expires))
        arguments = (comparison.pair_id, comparison.rater, "1" if comparison.swapped else "0", expires_ms)
        self._record("comparison", comparison, comparison, comparison.created, (*arguments, model_a, model_b))

    def judge(self, judgment: Judgment, comparison: Comparison) -> Recorded:
        """Record the answer; the same answer again is a duplicate, another one raises AlreadyJudged.

        Raises also UnknownComparison, ComparisonExpired, BadToken (another rater's comparison).
        """
        digest = hashlib.sha256(judgment.model_dump_json(exclude={"received"}).encode()).hexdigest()
        arguments = (judgment.judgment_id, judgment.comparison_id, judgment.rater, judgment.choice.value, digest)
        status, a, b = self._record("judgment", judgment, comparison, judgment.received, arguments)
        if status == "conflict":
            raise AlreadyJudged(f"judgment {judgment.judgment_id} was recorded with another answer; make a new id")
        if status == "judged":
            raise AlreadyJudged("this comparison has been judged; take that judgment back first, or ask for another")
        if status == "expired":
            raise ComparisonExpired("this comparison has expired; ask for a new one")
        if status == "wrong_rater":
            raise BadToken("this comparison was shown to another rater")
        if status == "unknown":
            raise UnknownComparison(f"there is no comparison {judgment.comparison_id}")
        return Recorded(status == "duplicate", a, b)

    def retract(self, retraction: Retraction) -> Recorded:
        """Record that a rater takes a judgment back; raises UnknownJudgment, BadToken."""
        held = self._stream.read_hash(self._judgment_key(retraction.judgment_id))
        comparison = self.comparison(held["comparison"]) if held else None
        arguments = (retraction.retraction_id, retraction.judgment_id, retraction.rater)
        status, a, b = self._record("retraction", retraction, comparison, retraction.received, arguments)
        if status == "unknown":
            raise UnknownJudgment(f"there is no judgment {retraction.judgment_id}, or it is too old to take back")
        if status == "wrong_rater":
            raise BadToken("this judgment was made by another rater")
        return Recorded(status == "duplicate", a, b)

    def append(self, record: Flag | Tombstone) -> Recorded:
        """Record a flag or an erasure."""
        status, a, b = self._record("append", record, None, record.received, ())
        return Recorded(status == "duplicate", a, b)

    def comparison(self, comparison_id: str) -> Comparison:
        """Return a comparison that was shown; raise UnknownComparison."""
        held = self._stream.read_hash(f"{self._stream.name}:comparison:{comparison_id}")
        if not held:
            raise UnknownComparison(f"there is no comparison {comparison_id}; ask for a new one")
        return Comparison.model_validate_json(held["record"])

    def tally(self, pool: str) -> dict[str, PairTally]:
        """Return the counts of a pool's pairs that were shown at least once."""
        counts: dict[str, dict[str, int]] = {}
        for field, value in self._stream.read_hash(self._tally_key(pool)).items():
            pair_id, _, name = field.rpartition(":")
            counts.setdefault(pair_id, {})[name] = int(value)
        return {pair_id: PairTally(**fields) for pair_id, fields in counts.items()}

    def seen(self, pool: str, rater: str) -> set[str]:
        """Return the pairs of a pool that were shown to a rater."""
        return self._stream.read_set(self._seen_key(pool, rater))

    def _record(
        self,
        action: str,
        record: Comparison | Judgment | Retraction | Flag | Tombstone,
        comparison: Comparison | None,
        now: datetime,
        arguments: tuple[str, ...],
    ) -> tuple[str, str, str]:
        name = self._stream.name
        pool = (comparison.pool if comparison else None) or "own"
        keys = (
            name,
            f"{name}:comparison:{comparison.comparison_id if comparison else ''}",
            self._judgment_key(_id_of(record)),
            self._tally_key(pool),
            self._seen_key(pool, record.rater if not isinstance(record, Flag) else ""),
        )
        common = (action, record.model_dump_json(), str(_milliseconds(now)), str(REMEMBER_S * 1000))
        status, a, b = self._stream.run_script(self._script, keys, (*common, *arguments))
        return status, a, b

    def _judgment_key(self, judgment_id: str) -> str:
        return f"{self._stream.name}:judgment:{judgment_id}"

    def _tally_key(self, pool: str) -> str:
        return f"{self._stream.name}:tally:{pool}"

    def _seen_key(self, pool: str, rater: str) -> str:
        return f"{self._stream.name}:seen:{pool}:{rater}"


def _id_of(record: Comparison | Judgment | Retraction | Flag | Tombstone) -> str:
    """Return what names the hash that remembers the record; a retraction changes its judgment's."""
    if isinstance(record, (Judgment, Retraction)):
        return record.judgment_id
    if isinstance(record, Flag):
        return f"flag:{record.flag_id}"
    if isinstance(record, Tombstone):
        return f"tombstone:{record.tombstone_id}"
    return ""


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
