"""Move records from the stream to the object store: segment, manifest, acknowledgment, trim, in this order.

Entries that were not acknowledged when a mover stopped are moved again. A segment is named by its content and a
manifest by its segment, so moving again writes the same objects, or the same records in another segment; readers count
each record once.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import logging
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harmonixr_platform.schemas import Strict
from harmonixr_platform.stores.connect import open_object_store, open_stream
from harmonixr_platform.stores.errors import ConditionFailed, StoreError
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.stores.streams import RecordStream, StreamEntry

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings

GROUP = "mover"
SEGMENTS, MANIFESTS = "feedback/segments/", "feedback/manifests/"
MAX_ENTRIES = 1000
# A mover is considered dead after this time without acknowledgment. If it is not, records are moved twice.
DEAD_AFTER_S = 60.0
_MAX_PAUSE_S = 30.0

_log = logging.getLogger(__name__)


class Manifest(Strict):
    """Marks a segment as complete. Readers find segments through manifests only.

    It is `void` after an erasure has replaced the segment by one with the remaining records. A void manifest is not
    deleted, so that a slow mover which is about to write it finds it.
    """

    segment: str
    sha256: str
    entries: int
    first_entry: str
    last_entry: str
    void: bool = False

    @property
    def key(self) -> str:
        """Its key in the object store."""
        return f"{MANIFESTS}{self.sha256}.json"


class Mover:
    """One consumer of the stream's group; any number may run at once."""

    def __init__(
        self,
        stream: RecordStream,
        store: ObjectStore,
        *,
        consumer: str | None = None,
        max_entries: int = MAX_ENTRIES,
        dead_after_s: float = DEAD_AFTER_S,
    ) -> None:
        self._stream = stream
        self._store = store
        # The same name after a restart, so that this machine's pending entries are read at once.
        self._consumer = consumer or socket.gethostname()
        self._max_entries = max_entries
        self._dead_after_s = dead_after_s

    @classmethod
    def open(cls, settings: Settings) -> Mover:
        """Return a mover between the settings' stores."""
        return cls(open_stream(settings), open_object_store(settings))

    def run_once(self) -> int:
        """Move all entries; return the number of records. Raises StoreError; nothing is lost then."""
        self._stream.create_group(GROUP)
        moved = 0
        while entries := self._next_entries():
            seal(self._store, entries)
            self._stream.acknowledge(GROUP, entries)
            moved += len(entries)
        # Also when nothing was moved: a mover may have died between acknowledging and trimming.
        self._stream.trim(GROUP)
        return moved

    def run_forever(self, stop: threading.Event, *, interval_s: float = 2.0) -> None:
        """Move entries until `stop` is set, with longer pauses while a store is unavailable."""
        pause_s = interval_s
        while not stop.wait(pause_s):
            try:
                moved = self.run_once()
            except StoreError as error:
                pause_s = min(_MAX_PAUSE_S, pause_s * 2)
                _log.warning("moving feedback failed, trying again: %s", error, extra={"pause_s": pause_s})
                continue
            pause_s = interval_s
            if moved:
                _log.info("moved feedback", extra={"records": moved})

    def close(self) -> None:
        """Close the connections."""
        self._stream.close()

    def _next_entries(self) -> list[StreamEntry]:
        """Return this consumer's pending entries, else those of dead consumers, else new ones."""
        return (
            self._stream.read_pending(GROUP, self._consumer, count=self._max_entries)
            or self._stream.claim(GROUP, self._consumer, idle_s=self._dead_after_s, count=self._max_entries)
            or self._stream.read_new(GROUP, self._consumer, count=self._max_entries)
        )


def seal(store: ObjectStore, entries: Sequence[StreamEntry]) -> None:
    """Write entries as a segment and then its manifest, which makes it visible to readers. Idempotent."""
    data = pack(entries)
    manifest = manifest_of(data, entries)
    # An existing object has the same content.
    with contextlib.suppress(ConditionFailed):
        store.put_if_absent(manifest.segment, data)
    with contextlib.suppress(ConditionFailed):
        store.put_if_absent(manifest.key, manifest.model_dump_json().encode())


def manifest_of(data: bytes, entries: Sequence[StreamEntry]) -> Manifest:
    """Return the manifest of a packed segment."""
    digest = hashlib.sha256(data).hexdigest()
    return Manifest(
        segment=f"{SEGMENTS}{digest}.jsonl.gz",
        sha256=digest,
        entries=len(entries),
        first_entry=entries[0].entry_id,
        last_entry=entries[-1].entry_id,
    )


def pack(entries: Sequence[StreamEntry]) -> bytes:
    """Return entries as gzipped JSON lines; equal entries give equal bytes."""
    lines = [json.dumps({"entry": entry.entry_id, "record": _parsed(entry.record)}) for entry in entries]
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def unpack(data: bytes) -> list[tuple[str, object]]:
    """Return the (entry id, record) rows of a segment, in the order of the stream."""
    rows = [json.loads(line) for line in gzip.decompress(data).splitlines()]
    return [(row["entry"], row["record"]) for row in rows]


def _parsed(record: str) -> object:
    # A foreign entry in the stream must not block the entries after it; readers count it as unreadable.
    try:
        return json.loads(record)
    except ValueError:
        return record
