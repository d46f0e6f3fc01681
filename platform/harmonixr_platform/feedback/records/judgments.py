"""The write path of feedback: each record is written once, by `record.lua`.

A record is on disk when a call returns. A call that raises StoreUnavailable may have taken effect: repeat it with the
same ids.
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
    RaterErased,
    UnknownComparison,
    UnknownJudgment,
)
from harmonixr_platform.feedback.records.signing import erased_name
from harmonixr_platform.schemas import Comparison, Flag, Judgment, Retraction, Tombstone
from harmonixr_platform.stores.streams import RecordStream

# Ids are stored for this time after a comparison expires. A later repeat gets a 404 and is never stored twice.
REMEMBER_S = 90 * 86_400

Record = Comparison | Judgment | Retraction | Flag | Tombstone


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Whether the record existed already, and the models that the receipt names (empty for a retraction)."""

    duplicate: bool
    model_a: str
    model_b: str


@dataclass(frozen=True, slots=True)
class PairTally:
    """How often a pair was shown in a role, when last, and the outcomes of its judgments (both bad is a tie)."""

    shown: int = 0
    first: int = 0
    second: int = 0
    tie: int = 0
    last_ms: int = 0

    @property
    def judged(self) -> int:
        """The number of judgments without skips."""
        return self.first + self.second + self.tie

    def covered(self, now_ms: int, *, unanswered_ms: int) -> int:
        """Return the number of raters who have judged the pair or are listening to it now."""
        return max(self.shown, self.judged) if now_ms - self.last_ms < unanswered_ms else self.judged


@dataclass(frozen=True, slots=True)
class Presentation:
    """A comparison that a rater was shown; `answered` if it has a judgment other than a skip."""

    comparison_id: str
    pair_id: str
    role: str
    swapped: bool
    answered: bool


class JudgmentLog:
    """Writes comparisons, judgments, retractions, flags and tombstones to one stream.

    With `replaying`, the records are in the object store already. The state of the write path is then rebuilt (ids, one
    vote for each comparison, tallies, histories, erasures) and nothing is added to the stream.
    """

    def __init__(self, stream: RecordStream, *, replaying: bool = False, remember_s: int = REMEMBER_S) -> None:
        self._stream = stream
        self._mode = "replay " if replaying else ""
        self._remember_ms = remember_s * 1000
        self._script = files("harmonixr_platform.feedback.records").joinpath("record.lua").read_text()

    def show(self, comparison: Comparison, *, model_a: str, model_b: str, presentations: int | None = None) -> bool:
        """Record that a pair is shown to a rater; its judgment's receipt names these models.

        With `presentations`, return False and record nothing unless the rater has been shown exactly so many pairs of
        the pool: the caller chose the pair by an older history and must choose again. Raises RaterErased.
        """
        arguments = (
            comparison.comparison_id,
            comparison.pair_id,
            comparison.rater,
            "1" if comparison.swapped else "0",
            comparison.role,
            str(_milliseconds(comparison.expires)),
            model_a,
            model_b,
            "" if presentations is None else str(presentations),
        )
        status, _, _ = self._write("comparison", comparison, comparison, comparison.created, arguments)
        if status == "erased":
            raise _rater_erased()
        return status != "stale"

    def judge(self, judgment: Judgment, comparison: Comparison) -> WriteResult:
        """Record a judgment; the same judgment again is a duplicate, a different one raises AlreadyJudged.

        Raises also UnknownComparison, ComparisonExpired, RaterErased, BadToken (another rater's comparison).
        """
        # Without defaults: a field that a later version adds must not change the digest of an older judgment.
        content = judgment.model_dump_json(exclude={"received"}, exclude_defaults=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        arguments = (judgment.judgment_id, judgment.comparison_id, judgment.rater, judgment.choice.value, digest)
        status, a, b = self._write("judgment", judgment, comparison, judgment.received, arguments)
        if status == "erased":
            raise _rater_erased()
        if status == "conflict":
            raise AlreadyJudged(f"judgment {judgment.judgment_id} was recorded with another answer; use a new id")
        if status == "judged":
            raise AlreadyJudged("this comparison has been judged; retract that judgment first, or request another")
        if status == "expired":
            raise ComparisonExpired("this comparison has expired; request a new one")
        if status == "wrong_rater":
            raise BadToken("this comparison was shown to another rater")
        if status == "unknown":
            raise UnknownComparison(f"there is no comparison {judgment.comparison_id}")
        return WriteResult(status == "duplicate", a, b)

    def retract(self, retraction: Retraction) -> WriteResult:
        """Record that a rater retracts a judgment; raises UnknownJudgment, BadToken."""
        stored = self._stream.read_hash(self._judgment_key(retraction.judgment_id))
        comparison = self.comparison(stored["comparison"]) if stored else None
        arguments = (retraction.retraction_id, retraction.judgment_id, retraction.rater)
        status, a, b = self._write("retraction", retraction, comparison, retraction.received, arguments)
        if status == "unknown":
            raise UnknownJudgment(f"there is no judgment {retraction.judgment_id}, or it is too old to retract")
        if status == "wrong_rater":
            raise BadToken("this judgment was made by another rater")
        return WriteResult(status == "duplicate", a, b)

    def append(self, record: Flag | Tombstone) -> WriteResult:
        """Record a flag, or an erasure, after which nothing of the rater is recorded."""
        action = "erase" if isinstance(record, Tombstone) else "append"
        status, a, b = self._write(action, record, None, record.received, ())
        return WriteResult(status == "duplicate", a, b)

    def comparison(self, comparison_id: str) -> Comparison:
        """Return a comparison that was shown; raise UnknownComparison."""
        stored = self._stream.read_hash(f"{self._stream.name}:comparison:{comparison_id}")
        if not stored:
            raise UnknownComparison(f"there is no comparison {comparison_id}; request a new one")
        return Comparison.model_validate_json(stored["record"])

    def tally(self, pool: str) -> dict[str, PairTally]:
        """Return the counts of a pool's pairs that were shown at least once, without gold pairs and repeats."""
        counts: dict[str, dict[str, int]] = {}
        for field, value in self._stream.read_hash(self._tally_key(pool)).items():
            pair_id, _, name = field.rpartition(":")
            counts.setdefault(pair_id, {})[name] = int(value)
        return {pair_id: PairTally(**fields) for pair_id, fields in counts.items()}

    def history(self, pool: str, rater: str) -> tuple[Presentation, ...]:
        """Return the presentations of a pool to a rater, oldest first."""
        rows = []
        for comparison_id, text in self._stream.read_hash(self._history_key(pool, rater)).items():
            number, pair_id, role, swapped, answered = text.split("|")
            rows.append((int(number), Presentation(comparison_id, pair_id, role, swapped == "1", answered == "1")))
        return tuple(presentation for _, presentation in sorted(rows, key=lambda row: row[0]))

    def _write(
        self, action: str, record: Record, comparison: Comparison | None, now: datetime, arguments: tuple[str, ...]
    ) -> tuple[str, str, str]:
        name = self._stream.name
        pool = (comparison.pool if comparison else None) or "own"
        role = comparison.role if comparison else "plain"
        rater = "" if isinstance(record, (Flag, Tombstone)) else record.rater
        erased = record.rater if isinstance(record, Tombstone) else erased_name(rater)
        keys = (
            name,
            f"{name}:comparison:{comparison.comparison_id if comparison else ''}",
            self._judgment_key(_hash_id(record)),
            # A pool's name contains no colon, so the key of a role's tally is never a pool's key.
            self._tally_key(pool if role == "plain" else f"{pool}:{role}"),
            self._history_key(pool, rater),
            f"{name}:erased:{erased}",
        )
        common = (self._mode + action, record.model_dump_json(), str(_milliseconds(now)), str(self._remember_ms))
        status, a, b = self._stream.run_script(self._script, keys, (*common, *arguments))
        return status, a, b

    def _judgment_key(self, judgment_id: str) -> str:
        return f"{self._stream.name}:judgment:{judgment_id}"

    def _tally_key(self, pool: str) -> str:
        return f"{self._stream.name}:tally:{pool}"

    def _history_key(self, pool: str, rater: str) -> str:
        return f"{self._stream.name}:history:{pool}:{rater}"


def _hash_id(record: Record) -> str:
    """Return the id of the Redis hash for a record; a retraction changes its judgment's hash."""
    if isinstance(record, (Judgment, Retraction)):
        return record.judgment_id
    if isinstance(record, Flag):
        return f"flag:{record.flag_id}"
    return ""


def _rater_erased() -> RaterErased:
    return RaterErased("this listener was erased, so nothing is recorded under their key; start with a new key")


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
