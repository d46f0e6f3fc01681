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
    RaterErased,
    UnknownComparison,
    UnknownJudgment,
)
from harmonixr_platform.feedback.records.signing import erased_name
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
    """How often a pair was shown in a role, when last, and how its judgments fell (both bad counts as a tie)."""

    shown: int = 0
    first: int = 0
    second: int = 0
    tie: int = 0
    last_ms: int = 0

    @property
    def judged(self) -> int:
        """How many answers there are; a skip is none."""
        return self.first + self.second + self.tie

    def covered(self, now_ms: int, *, unanswered_ms: int) -> int:
        """Return how many raters judged it or have it before them now."""
        return max(self.shown, self.judged) if now_ms - self.last_ms < unanswered_ms else self.judged


@dataclass(frozen=True, slots=True)
class Shown:
    """A comparison that a rater was shown; `answered` when a judgment of it stands that is no skip."""

    comparison_id: str
    pair_id: str
    role: str
    swapped: bool
    answered: bool


class JudgmentLog:
    """Comparisons, judgments and what takes them back, in one stream.

    Replaying, what is written here is in the object store already: everything that the write path remembers is built
    anew (ids, one vote a comparison, tallies, histories, erasures), and nothing is added to the stream.
    """

    def __init__(self, stream: RecordStream, *, replaying: bool = False, remember_s: int = REMEMBER_S) -> None:
        self._stream = stream
        self._mode = "replay " if replaying else ""
        self._remember_ms = remember_s * 1000
        self._script = files("harmonixr_platform.feedback.records").joinpath("record.lua").read_text()

    def show(self, comparison: Comparison, *, model_a: str, model_b: str, heard: int | None = None) -> bool:
        """Record that a pair is shown to a rater; a judgment needs it, and its receipt names these models.

        With `heard`, nothing is recorded and False returned unless the rater has been shown exactly so many of the pool
        by now: whoever chose the pair by an older history must choose again. Raises RaterErased.
        """
        expires_ms = str(_milliseconds(comparison.expires))
        swapped = "1" if comparison.swapped else "0"
        known = "" if heard is None else str(heard)
        arguments = (comparison.comparison_id, comparison.pair_id, comparison.rater, swapped, comparison.role)
        status, _, _ = self._record(
            "comparison", comparison, comparison, comparison.created, (*arguments, expires_ms, model_a, model_b, known)
        )
        if status == "erased":
            raise _erased()
        return status != "stale"

    def judge(self, judgment: Judgment, comparison: Comparison) -> Recorded:
        """Record the answer; the same answer again is a duplicate, another one raises AlreadyJudged.

        Raises also UnknownComparison, ComparisonExpired, RaterErased, BadToken (another rater's comparison).
        """
        # Without defaults: a field that a later version adds must not make an old answer another one.
        content = judgment.model_dump_json(exclude={"received"}, exclude_defaults=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        arguments = (judgment.judgment_id, judgment.comparison_id, judgment.rater, judgment.choice.value, digest)
        status, a, b = self._record("judgment", judgment, comparison, judgment.received, arguments)
        if status == "erased":
            raise _erased()
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
        """Record a flag, or an erasure: from then on nothing of the rater is recorded."""
        action = "erase" if isinstance(record, Tombstone) else "append"
        status, a, b = self._record(action, record, None, record.received, ())
        return Recorded(status == "duplicate", a, b)

    def comparison(self, comparison_id: str) -> Comparison:
        """Return a comparison that was shown; raise UnknownComparison."""
        held = self._stream.read_hash(f"{self._stream.name}:comparison:{comparison_id}")
        if not held:
            raise UnknownComparison(f"there is no comparison {comparison_id}; ask for a new one")
        return Comparison.model_validate_json(held["record"])

    def tally(self, pool: str) -> dict[str, PairTally]:
        """Return the counts of a pool's pairs that were shown at least once; gold pairs and repeats do not count."""
        counts: dict[str, dict[str, int]] = {}
        for field, value in self._stream.read_hash(self._tally_key(pool)).items():
            pair_id, _, name = field.rpartition(":")
            counts.setdefault(pair_id, {})[name] = int(value)
        return {pair_id: PairTally(**fields) for pair_id, fields in counts.items()}

    def history(self, pool: str, rater: str) -> tuple[Shown, ...]:
        """Return what a rater was shown of a pool, oldest first."""
        rows = []
        for comparison_id, text in self._stream.read_hash(self._history_key(pool, rater)).items():
            number, pair_id, role, swapped, answered = text.split("|")
            rows.append((int(number), Shown(comparison_id, pair_id, role, swapped == "1", answered == "1")))
        return tuple(shown for _, shown in sorted(rows, key=lambda row: row[0]))

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
        role = comparison.role if comparison else "plain"
        rater = "" if isinstance(record, (Flag, Tombstone)) else record.rater
        erased = record.rater if isinstance(record, Tombstone) else erased_name(rater)
        keys = (
            name,
            f"{name}:comparison:{comparison.comparison_id if comparison else ''}",
            self._judgment_key(_id_of(record)),
            # Names of pools hold no colon, so the counts of a role stand apart.
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


def _id_of(record: Comparison | Judgment | Retraction | Flag | Tombstone) -> str:
    """Return what names the hash that remembers the record; a retraction changes its judgment's."""
    if isinstance(record, (Judgment, Retraction)):
        return record.judgment_id
    if isinstance(record, Flag):
        return f"flag:{record.flag_id}"
    return ""


def _erased() -> RaterErased:
    return RaterErased("this listener asked to be erased, so nothing is taken under their key; begin with a new one")


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
