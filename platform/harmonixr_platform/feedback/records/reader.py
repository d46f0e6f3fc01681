"""Read the judgments from the object store: each record once, without retracted and erased ones.

Each judgment is joined with its comparison and pair. Judgments that cannot be used are counted, never dropped silently.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from pydantic import TypeAdapter, ValidationError

from harmonixr_platform.feedback.errors import UnknownPair
from harmonixr_platform.feedback.records.judgments import Record
from harmonixr_platform.feedback.records.mover import MANIFESTS, Manifest, unpack
from harmonixr_platform.feedback.records.pairs import PairStore
from harmonixr_platform.feedback.records.signing import erased_name
from harmonixr_platform.schemas import Choice, Comparison, Flag, Judgment, Pair, Retraction, Tombstone
from harmonixr_platform.stores.errors import NotFound, StoreError, StoreUnavailable
from harmonixr_platform.stores.objects import ObjectStore

Outcome = Literal["first", "second", "tie", "both_bad", "skip"]

_TRIES = 3
_RECORD: TypeAdapter[Record] = TypeAdapter(Record)


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """A judgment in force with its comparison and pair."""

    judgment: Judgment
    comparison: Comparison
    pair: Pair

    @property
    def seconds(self) -> float:
        """The time from showing the pair to the judgment."""
        return (self.judgment.received - self.comparison.created).total_seconds()

    @property
    def outcome(self) -> Outcome:
        """The choice in terms of the pair's first and second candidate instead of sides."""
        a, b = ("second", "first") if self.comparison.swapped else ("first", "second")
        outcomes = {Choice.A: a, Choice.B: b, Choice.TIE: "tie", Choice.BOTH_BAD: "both_bad", Choice.SKIP: "skip"}
        return cast(Outcome, outcomes[self.judgment.choice])


@dataclass(frozen=True, slots=True)
class Feedback:
    """All judgments in force, oldest first, and the counts of what was read.

    `counts` has: records, repeated (moved twice), comparisons, judgments, retracted, erased, revoted (a second vote on
    one comparison), orphaned (its comparison or pair is missing), unreadable.
    """

    judged: tuple[JudgedPair, ...]
    flags: tuple[Flag, ...]
    manifests: tuple[str, ...]
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def data_hash(self) -> str:
        """Hash of the manifests that were read, for a model's lineage."""
        return hashlib.sha256("\n".join(self.manifests).encode()).hexdigest()


def read_feedback(store: ObjectStore) -> Feedback:
    """Return the judgments in force; raise StoreUnavailable if a segment is damaged or missing."""
    manifests, records, counts = _read(store)
    erased = {record.rater for record in records if isinstance(record, Tombstone)}
    retracted = {record.judgment_id: record.rater for record in records if isinstance(record, Retraction)}
    comparisons = {record.comparison_id: record for record in records if isinstance(record, Comparison)}
    counts["comparisons"] = len(comparisons)
    pairs = PairStore(store)
    judged: dict[str, JudgedPair] = {}
    for record in records:
        if not isinstance(record, Judgment):
            continue
        counts["judgments"] += 1
        comparison = comparisons.get(record.comparison_id)
        # Tombstones of version 0.1 held the pseudonym itself.
        if erased & {record.rater, erased_name(record.rater)}:
            counts["erased"] += 1
        elif retracted.get(record.judgment_id) == record.rater:
            counts["retracted"] += 1
        elif record.comparison_id in judged:
            counts["revoted"] += 1
        elif comparison is None or (pair := _pair(pairs, comparison.pair_id)) is None:
            counts["orphaned"] += 1
        else:
            judged[record.comparison_id] = JudgedPair(record, comparison, pair)
    flags = tuple(record for record in records if isinstance(record, Flag))
    return Feedback(tuple(judged.values()), flags, manifests, counts)


def read_records(store: ObjectStore) -> list[Record]:
    """Return every record once, in the order of the stream, including retracted and erased ones."""
    return _read(store)[1]


def _read(store: ObjectStore) -> tuple[tuple[str, ...], list[Record], Counter[str]]:
    """Return the manifests in force, their records, and the counts."""
    for tries_left in reversed(range(_TRIES)):
        counts: Counter[str] = Counter()
        try:
            manifests = live_manifests(store)
            return tuple(manifests), list(_records(store, manifests, counts)), counts
        except StoreError:
            # An erasure may have replaced a segment in the meantime.
            if not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


def live_manifests(store: ObjectStore) -> dict[str, Manifest]:
    """Return the manifests in force by their keys, without the void ones of replaced segments."""
    keys = store.list(MANIFESTS)
    while True:
        found = {key: Manifest.model_validate_json(store.get(key).data) for key in keys}
        # The replacement of a void manifest is written before it, and possibly after the keys were listed.
        before, keys = keys, store.list(MANIFESTS)
        if keys == before:
            return {key: manifest for key, manifest in found.items() if not manifest.void}


def _records(store: ObjectStore, manifests: Mapping[str, Manifest], counts: Counter[str]) -> Iterator[Record]:
    """Yield each record once, in the order of the stream."""
    entries: list[tuple[tuple[int, ...], object]] = []
    for key, manifest in manifests.items():
        for entry_id, content in unpack(_segment(store, key, manifest)):
            entries.append((tuple(int(part) for part in entry_id.split("-")), content))
    seen: set[tuple[str, str]] = set()
    for _, content in sorted(entries, key=lambda entry: entry[0]):
        counts["records"] += 1
        try:
            record = _RECORD.validate_python(content)
        except ValidationError:
            counts["unreadable"] += 1
            continue
        identity = (record.record, getattr(record, f"{record.record}_id"))
        if identity in seen:
            counts["repeated"] += 1
            continue
        seen.add(identity)
        yield record


def _segment(store: ObjectStore, key: str, manifest: Manifest) -> bytes:
    try:
        data = store.get(manifest.segment).data
    except NotFound:
        raise StoreUnavailable(f"{key} names {manifest.segment}, which is missing; restore it") from None
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise StoreUnavailable(f"{manifest.segment} is damaged; restore it from a backup")
    return data


def _pair(pairs: PairStore, pair_id: str) -> Pair | None:
    try:
        return pairs.get(pair_id)
    except UnknownPair:
        return None
