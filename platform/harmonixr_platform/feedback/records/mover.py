"""Carry records from the stream to objects: segment, manifest, acknowledgment, trim, in this order.

Whenever it stops, what was not acknowledged is carried again. A segment is named by its content and a manifest by its
segment, so carrying again writes the same objects or, with other neighbours, the same records once more; readers count
a record once. Knows nothing of what a record says.
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
# A mover that has not acknowledged for this long is taken for dead. Wrongly taken, records are only carried twice.
DEAD_AFTER_S = 60.0
_MAX_PAUSE_S = 30.0

_log = logging.getLogger(__name__)


class Manifest(Strict):
    """Says that a segment is whole. Readers know of segments by manifests only.

    A `void` one stands where an erasure wrote the segment's other records anew and removed it. It stays, so that a
    mover which was slow to write the manifest finds that it is there.
    """

    segment: str
    sha256: str
    entries: int
    first_entry: str
    last_entry: str
    void: bool = False


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
        # The same name after a restart, so that what this machine left pending is picked up at once.
        self._consumer = consumer or socket.gethostname()
        self._max_entries = max_entries
        self._dead_after_s = dead_after_s

    @classmethod
    def open(cls, settings: Settings) -> Mover:
        """Return a mover between the stores that the settings name."""
        return cls(open_stream(settings), open_object_store(settings))

    def run_once(self) -> int:
        """Carry all there is; return how many records went. Raises StoreError; nothing is lost then."""
        self._stream.create_group(GROUP)
        moved = 0
        while entries := self._next_entries():
            seal(self._store, entries)
            self._stream.acknowledge(GROUP, entries)
            moved += len(entries)
        # Also when nothing moved: a mover that died between acknowledging and trimming left its entries behind.
        self._stream.trim(GROUP)
        return moved

    def run_forever(self, stop: threading.Event, *, interval_s: float = 2.0) -> None:
        """Carry until `stop` is set, waiting longer while a store is away."""
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
        """Return what this consumer left pending, else what dead ones left, else what is new."""
        return (
            self._stream.read_pending(GROUP, self._consumer, count=self._max_entries)
            or self._stream.claim(GROUP, self._consumer, idle_s=self._dead_after_s, count=self._max_entries)
            or self._stream.read_new(GROUP, self._consumer, count=self._max_entries)
        )


def seal(store: ObjectStore, entries: Sequence[StreamEntry]) -> None:
    """Write entries as a segment, then the manifest that makes readers see it; again changes nothing."""
    data = pack(entries)
    manifest = manifest_of(data, entries)
    # An object that is there already has this very content.
    with contextlib.suppress(ConditionFailed):
        store.put_if_absent(manifest.segment, data)
    with contextlib.suppress(ConditionFailed):
        store.put_if_absent(manifest_key(manifest), manifest.model_dump_json().encode())


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


def manifest_key(manifest: Manifest) -> str:
    """Return where a manifest lies."""
    return f"{MANIFESTS}{manifest.sha256}.json"


def pack(entries: Sequence[StreamEntry]) -> bytes:
    """Return entries as gzipped JSON lines; equal entries give equal bytes."""
    lines = [json.dumps({"entry": entry.entry_id, "record": _parsed(entry.record)}) for entry in entries]
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def unpack(data: bytes) -> list[tuple[str, object]]:
    """Return (entry id, record) of a segment, in the order of the stream."""
    rows = [json.loads(line) for line in gzip.decompress(data).splitlines()]
    return [(row["entry"], row["record"]) for row in rows]


def _parsed(record: str) -> object:
    # What somebody else put into the stream must not stop what comes after it; readers count it as unreadable.
    try:
        return json.loads(record)
    except ValueError:
        return record
