"""Erase a rater: afterwards nothing that can be reached names them, in Redis, segments, manifests or pairs.

In order: a tombstone, after which nothing of theirs is taken and readers drop what is there; Redis's keys; what waits
in the stream is carried to segments; pairs made of their own music go; then every segment that holds a record of theirs
is written anew without it. A new segment and its manifest are whole before the old manifest becomes void, and the old
segment goes last, so that readers find every other record at every moment, at worst twice, and count it once. Each step
may be run again: whoever was stopped anywhere asks again and it goes on. Knows no HTTP.

Not here: exports given away, backups, old versions in a bucket that keeps them (docs/feedback.md says what to do).
"""

from __future__ import annotations

import contextlib
import json
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
    manifest_key,
    manifest_of,
    seal,
    unpack,
)
from harmonixr_platform.feedback.records.signing import Signer, erased_name
from harmonixr_platform.schemas import Tombstone
from harmonixr_platform.stores.connect import open_object_store, open_stream
from harmonixr_platform.stores.errors import NotFound
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.stores.streams import RecordStream, StreamEntry

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings

_AT_ONCE = 200
# Another mover may write what it had in hand while we looked; then we look again.
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure removed: records from so many segments, keys of Redis, pairs of the rater's own music."""

    records: int = 0
    segments: int = 0
    keys: int = 0
    pairs: int = 0

    def __add__(self, other: Erased) -> Erased:
        """Return both together."""
        return Erased(
            self.records + other.records,
            self.segments + other.segments,
            self.keys + other.keys,
            self.pairs + other.pairs,
        )


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
        """Return an eraser on the stores that the settings name."""
        return cls(open_stream(settings), open_object_store(settings), secret=settings.rater_key())

    def pseudonym(self, rater_key: str) -> str:
        """Return the name under which a rater's answers are kept."""
        return self._signer.pseudonym(rater_key)

    def erase(self, rater: str, *, now: datetime) -> Erased:
        """Erase a rater by pseudonym; when this returns, nothing that can be reached names them.

        Raises StoreError where a store is away (ask again: it goes on), FeedbackError where a mover keeps writing.
        """
        name = erased_name(rater)
        self._log.append(Tombstone(tombstone_id=name, rater=name, received=now))
        done = Erased()
        for _ in range(_ROUNDS):
            found = Erased(keys=self._remove_keys(rater))
            self._carry()
            found += self._sweep_store(name)
            done += found
            if found == Erased():
                # What was removed still stands in Redis's log of commands.
                self._stream.compact()
                return done
        raise FeedbackError("records of this rater keep coming from another mover; stop the service and erase again")

    def repeat(self, *, now: datetime) -> Erased:
        """Erase again everyone who has a tombstone: after a backup was restored, whatever it brought back."""
        self._carry()
        done = Erased()
        for name, raters in self._named().items():
            for rater in raters:
                done += self.erase(rater, now=now)
            if not raters:
                self._log.append(Tombstone(tombstone_id=name, rater=name, received=now))
        return done

    def close(self) -> None:
        """Close the connections."""
        self._stream.close()

    def _named(self) -> dict[str, set[str]]:
        """Return every tombstone's name with the pseudonyms that are still stored for it."""
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

    def _carry(self) -> None:
        """Carry everything that waits, also what another mover has in hand: it may be dead."""
        Mover(self._stream, self._store, dead_after_s=0).run_once()

    def _remove_keys(self, rater: str) -> int:
        removed, cursor = 0, "0"
        while cursor:
            arguments = [cursor, str(_AT_ONCE), rater]
            cursor, count = self._stream.run_script(self._script, [self._stream.name], arguments)
            removed += int(count)
        return removed

    def _sweep_store(self, name: str) -> Erased:
        """Write every segment that holds a record of this rater anew without them."""
        gone = _Gone(name)
        # Newest first: a flag goes before the judgment that says whose it is, or with it.
        segments = sorted(self._segments(), key=lambda segment: segment.entries[0][0], reverse=True)
        for segment in segments:
            gone.note(record for _, record in segment.entries)
        # Pairs first: once the comparisons are gone, nothing says any more whose music a pair was.
        done = Erased(pairs=self._remove_pairs(gone.own_pairs()))
        for segment in segments:
            kept = [entry for entry in segment.entries if not gone.covers(entry[1])]
            if len(kept) < len(segment.entries):
                self._replace(segment, kept)
                done += Erased(records=len(segment.entries) - len(kept), segments=1)
        return done

    def _segments(self) -> Iterator[_Segment]:
        """Yield every segment there is, with a manifest or left without one; remove those that were replaced."""
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

    def _replace(self, segment: _Segment, kept: Sequence[tuple[str, object]]) -> None:
        if kept:
            seal(self._store, _entries(kept))
        void = manifest_of(segment.data, _entries(segment.entries)).model_copy(update={"void": True})
        self._store.put(manifest_key(void), void.model_dump_json().encode())
        self._store.delete(void.segment)

    def _remove_pairs(self, pair_ids: Iterable[str]) -> int:
        removed = 0
        for pair_id in pair_ids:
            with contextlib.suppress(NotFound):
                self._store.get(f"feedback/pairs/{pair_id}.json")
                self._store.delete(f"feedback/pairs/{pair_id}.json")
                removed += 1
        return removed


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment as it lies there, and its entries (id, record)."""

    data: bytes
    entries: Sequence[tuple[str, object]]


def _entries(rows: Sequence[tuple[str, object]]) -> list[StreamEntry]:
    return [StreamEntry(entry_id, json.dumps(record)) for entry_id, record in rows]


class _Gone:
    """Which records go with a rater: their own, and flags on their judgments."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._judgments: set[str] = set()
        self._own: set[str] = set()
        self._used: set[str] = set()

    def note(self, records: Iterable[object]) -> None:
        """Learn which judgments and pairs were theirs."""
        for record in records:
            if not isinstance(record, dict):
                continue
            theirs = self._is_theirs(record)
            if theirs and record.get("record") == "judgment":
                self._judgments.add(str(record.get("judgment_id")))
            if record.get("record") == "comparison":
                own = theirs and record.get("source") == "own_prompt"
                (self._own if own else self._used).add(str(record.get("pair_id")))

    def own_pairs(self) -> set[str]:
        """Return the pairs made of the rater's own music that nobody else heard."""
        return self._own - self._used

    def covers(self, record: object) -> bool:
        """Return whether a record goes."""
        if not isinstance(record, dict):
            return False
        return self._is_theirs(record) or (
            record.get("record") == "flag" and str(record.get("judgment_id")) in self._judgments
        )

    def _is_theirs(self, record: dict[str, Any]) -> bool:
        rater = record.get("rater")
        return isinstance(rater, str) and record.get("record") != "tombstone" and erased_name(rater) == self._name
