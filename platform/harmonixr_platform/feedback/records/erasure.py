"""Erase a rater from Redis, segments, manifests and pairs.

The order of the steps is:

1. Write a tombstone: nothing more of the rater is recorded, and readers skip their records.
2. Delete their keys in Redis, and move the entries that wait in the stream to segments.
3. Delete the pairs of their own music.
4. Replace every segment with records of theirs. The new segment and its manifest are complete before the old manifest
   becomes void, and the old segment is deleted last. Readers find every other record at every moment, possibly twice,
   and count it once.

Each step is idempotent: run an interrupted erasure again. Exports, backups and old object versions in a versioned
bucket are not erased here (see docs/feedback.md).
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.records.judgments import JudgmentLog
from harmonixr_platform.feedback.records.mover import (
    MANIFESTS,
    SEGMENTS,
    Manifest,
    Mover,
    manifest_of,
    seal,
    unpack,
)
from harmonixr_platform.feedback.records.pairs import pair_key
from harmonixr_platform.feedback.records.signing import Signer, erased_name
from harmonixr_platform.schemas import Tombstone
from harmonixr_platform.stores.connect import open_object_store, open_stream
from harmonixr_platform.stores.errors import NotFound
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.stores.streams import RecordStream, StreamEntry

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings

_AT_ONCE = 200
# Another mover may write a segment during the search; then search again.
_ROUNDS = 5


class Eraser:
    """Erases raters from one stream and one store."""

    def __init__(self, stream: RecordStream, store: ObjectStore, *, secret: bytes = b"") -> None:
        self._stream = stream
        self._store = store
        self._log = JudgmentLog(stream)
        self._signer = Signer(secret)
        self._script = files("harmonixr_platform.feedback.records").joinpath("erasure.lua").read_text()

    @classmethod
    def open(cls, settings: Settings) -> Eraser:
        """Return an eraser on the settings' stores."""
        return cls(open_stream(settings), open_object_store(settings), secret=settings.rater_key())

    def pseudonym(self, rater_key: str) -> str:
        """Return the pseudonym under which a rater's records are stored."""
        return self._signer.pseudonym(rater_key)

    def erase(self, rater: str, *, now: datetime) -> Counter[str]:
        """Erase a rater by pseudonym; count the records, segments, keys (of Redis) and pairs of own music removed.

        Raises StoreError if a store is unavailable (run it again) and FeedbackError if a mover keeps adding records.
        """
        name = erased_name(rater)
        self._log.append(Tombstone(tombstone_id=name, rater=name, received=now))
        done: Counter[str] = Counter()
        for _ in range(_ROUNDS):
            found = Counter(keys=self._remove_keys(rater))
            self._move_entries()
            found += self._sweep_store(name)
            done += found
            if not found:
                # Redis's append-only file still has the deleted data.
                self._stream.compact()
                return done
        raise FeedbackError("another mover keeps adding records of this rater; stop the service and erase again")

    def repeat(self, *, now: datetime) -> Counter[str]:
        """Erase again every rater with a tombstone, for use after a backup was restored."""
        self._move_entries()
        done: Counter[str] = Counter()
        for name, raters in self._tombstones().items():
            for rater in raters:
                done += self.erase(rater, now=now)
            if not raters:
                self._log.append(Tombstone(tombstone_id=name, rater=name, received=now))
        return done

    def close(self) -> None:
        """Close the connections."""
        self._stream.close()

    def _tombstones(self) -> dict[str, set[str]]:
        """Return every tombstone's name with the pseudonyms of this rater that are still stored."""
        raters: set[str] = set()
        names: dict[str, set[str]] = {}
        for segment in self._segments():
            for _, record in segment.entries:
                if not isinstance(record, dict):
                    continue
                if record.get("record") == "tombstone":
                    names.setdefault(str(record.get("rater")), set())
                elif "rater" in record:
                    raters.add(str(record["rater"]))
        for rater in raters:
            if erased_name(rater) in names:
                names[erased_name(rater)].add(rater)
        return names

    def _move_entries(self) -> None:
        """Move all waiting entries, also those pending with another mover, which may be dead."""
        Mover(self._stream, self._store, dead_after_s=0).run_once()

    def _remove_keys(self, rater: str) -> int:
        removed, cursor = 0, "0"
        while cursor:
            arguments = [cursor, str(_AT_ONCE), rater]
            cursor, count = self._stream.run_script(self._script, [self._stream.name], arguments)
            removed += int(count)
        return removed

    def _sweep_store(self, name: str) -> Counter[str]:
        """Replace every segment that has a record of this rater."""
        erased = _ErasedRecords(name)
        # Newest first, so that a flag is removed before its judgment, which identifies the rater, or with it.
        segments = sorted(self._segments(), key=lambda segment: segment.entries[0][0], reverse=True)
        for segment in segments:
            erased.collect(record for _, record in segment.entries)
        # Pairs first: without the comparisons, the owner of a pair's music is unknown.
        done = Counter(pairs=self._remove_pairs(erased.own_pairs()))
        for segment in segments:
            remaining = [entry for entry in segment.entries if entry[1] not in erased]
            if len(remaining) < len(segment.entries):
                self._replace(segment, remaining)
                done += Counter(records=len(segment.entries) - len(remaining), segments=1)
        return +done

    def _segments(self) -> Iterator[_Segment]:
        """Yield every segment, also those without a manifest; delete replaced segments."""
        void = {
            manifest.segment
            for key in self._store.list(MANIFESTS)
            if (manifest := Manifest.model_validate_json(self._store.get(key).data)).void
        }
        for key in self._store.list(SEGMENTS):
            if key in void:
                self._store.delete(key)
                continue
            with contextlib.suppress(NotFound):
                data = self._store.get(key).data
                yield _Segment(data, unpack(data))

    def _replace(self, segment: _Segment, remaining: Sequence[tuple[str, object]]) -> None:
        if remaining:
            seal(self._store, _entries(remaining))
        void = manifest_of(segment.data, _entries(segment.entries)).model_copy(update={"void": True})
        self._store.put(void.key, void.model_dump_json().encode())
        self._store.delete(void.segment)

    def _remove_pairs(self, pair_ids: Iterable[str]) -> int:
        removed = 0
        for pair_id in pair_ids:
            with contextlib.suppress(NotFound):
                self._store.get(pair_key(pair_id))
                self._store.delete(pair_key(pair_id))
                removed += 1
        return removed


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stored segment and its (entry id, record) rows."""

    data: bytes
    entries: Sequence[tuple[str, object]]


def _entries(rows: Sequence[tuple[str, object]]) -> list[StreamEntry]:
    return [StreamEntry(entry_id, json.dumps(record)) for entry_id, record in rows]


class _ErasedRecords:
    """The records to erase with a rater: their own, and flags on their judgments."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._judgments: set[str] = set()
        self._own: set[str] = set()
        self._used: set[str] = set()

    def collect(self, records: Iterable[object]) -> None:
        """Collect the rater's judgments and pairs."""
        for record in records:
            if not isinstance(record, dict):
                continue
            is_own = self._is_own(record)
            if is_own and record.get("record") == "judgment":
                self._judgments.add(str(record.get("judgment_id")))
            if record.get("record") == "comparison":
                own = is_own and record.get("source") == "own_prompt"
                (self._own if own else self._used).add(str(record.get("pair_id")))

    def own_pairs(self) -> set[str]:
        """Return the pairs of the rater's own music that nobody else was shown."""
        return self._own - self._used

    def __contains__(self, record: object) -> bool:
        if not isinstance(record, dict):
            return False
        return self._is_own(record) or (
            record.get("record") == "flag" and str(record.get("judgment_id")) in self._judgments
        )

    def _is_own(self, record: dict[str, Any]) -> bool:
        rater = record.get("rater")
        return isinstance(rater, str) and record.get("record") != "tombstone" and erased_name(rater) == self._name
