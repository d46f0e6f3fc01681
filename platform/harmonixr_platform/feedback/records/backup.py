"""Back up all feedback to another object store, and restore it.

A backup consists of objects under their content hash and a list of keys and hashes. The list is written last, so a
backup with a list is complete; equal content is stored once for all backups. Restoring deletes nothing and overwrites
damaged objects only. An erasure recorded on either side stays in force.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.records.mover import MANIFESTS, SEGMENTS, Manifest
from harmonixr_platform.schemas import Strict
from harmonixr_platform.stores.errors import ConditionFailed, NotFound, StoreUnavailable
from harmonixr_platform.stores.objects import ObjectStore

FEEDBACK = "feedback/"
BLOBS, SNAPSHOTS = "blobs/", "backups/"
# Named by their content, so a key that was copied once need not be read again.
_IMMUTABLE = (SEGMENTS, "feedback/pairs/")
_ROUNDS = 3


class Snapshot(Strict):
    """The list of a backup: every key of the store with the SHA-256 of its content."""

    format: Literal[1] = 1
    taken: datetime
    objects: dict[str, str]

    @property
    def name(self) -> str:
        """The time at which it was taken, as in its key."""
        return f"{self.taken:%Y%m%dT%H%M%S%fZ}"


def back_up(store: ObjectStore, target: ObjectStore, *, now: datetime) -> Snapshot:
    """Copy all feedback from `store` to `target`; entries that still wait in the stream are not included.

    Raises StoreUnavailable if a store is unavailable or an object is damaged; then no backup is listed.
    """
    known = set(target.list(BLOBS))
    names = snapshots(target)
    before = read_snapshot(target, names[-1]).objects if names else {}
    for rounds_left in reversed(range(_ROUNDS)):
        try:
            objects = {key: _copy(store, target, key, known, before) for key in _keys(store)}
            break
        except NotFound:
            # An erasure deleted an object between listing and reading.
            if not rounds_left:
                raise
    snapshot = Snapshot(taken=now, objects=objects)
    try:
        target.put_if_absent(_snapshot_key(snapshot.name), snapshot.model_dump_json(indent=1).encode())
    except ConditionFailed:
        raise FeedbackError(f"there is a backup {snapshot.name} already; run the command again") from None
    return snapshot


def snapshots(target: ObjectStore) -> tuple[str, ...]:
    """Return the names of the backups in `target`, oldest first."""
    return tuple(key.removeprefix(SNAPSHOTS).removesuffix(".json") for key in target.list(SNAPSHOTS))


def read_snapshot(target: ObjectStore, name: str) -> Snapshot:
    """Return a backup's list; raise FeedbackError if there is none of this name."""
    try:
        return Snapshot.model_validate_json(target.get(_snapshot_key(name)).data)
    except NotFound:
        known = ", ".join(snapshots(target)[-3:]) or "none"
        raise FeedbackError(f"there is no backup {name!r} here; the last ones are: {known}") from None


def prune(target: ObjectStore, *, keep: int) -> int:
    """Delete all but the newest `keep` backups and unused content; return the number of deleted content objects.

    Do not run it during a backup: content that is copied but not yet listed would be deleted.
    """
    names = snapshots(target)
    for name in names[:-keep]:
        target.delete(_snapshot_key(name))
    needed = {digest for name in names[-keep:] for digest in read_snapshot(target, name).objects.values()}
    unused = [key for key in target.list(BLOBS) if key.removeprefix(BLOBS) not in needed]
    for key in unused:
        target.delete(key)
    return len(unused)


def restore(target: ObjectStore, store: ObjectStore, *, name: str | None = None) -> Counter[str]:
    """Restore a backup (the newest, or by name) into `store`; count the keys written, kept, mended and erased.

    Only missing keys and damaged objects are written, manifests last, so that readers see complete segments only. A
    segment that is void in the store or in the backup is not restored. Raises FeedbackError if there is no such backup
    and StoreUnavailable if its content is damaged.
    """
    names = snapshots(target)
    if name is None and not names:
        raise FeedbackError("there is no backup here; give the address that `harmonixr feedback backup` wrote to")
    snapshot = read_snapshot(target, name or names[-1])
    done: Counter[str] = Counter()
    manifests = {key: _blob(target, digest) for key, digest in snapshot.objects.items() if key.startswith(MANIFESTS)}
    void = _void(manifests.values()) | _void(store.get(key).data for key in store.list(MANIFESTS))
    for key, digest in snapshot.objects.items():
        if key in void:
            done["erased"] += 1
        elif key not in manifests:
            done[_put(store, key, _blob(target, digest))] += 1
    for key, data in manifests.items():
        done[_put_manifest(store, key, data)] += 1
    return done


def _keys(store: ObjectStore) -> tuple[str, ...]:
    # List manifests first: a segment is written before its manifest and is therefore in the second list.
    manifests = set(store.list(MANIFESTS))
    rest = [key for key in store.list(FEEDBACK) if not key.startswith(MANIFESTS)]
    return (*sorted(manifests), *rest)


def _copy(store: ObjectStore, target: ObjectStore, key: str, known: set[str], before: Mapping[str, str]) -> str:
    """Copy the content of a key to `target` unless it is there; return its hash."""
    if key.startswith(_IMMUTABLE) and key in before and f"{BLOBS}{before[key]}" in known:
        return before[key]
    data = store.get(key).data
    digest = hashlib.sha256(data).hexdigest()
    if key.startswith(SEGMENTS) and digest not in key:
        raise StoreUnavailable(f"{key} is damaged, so it cannot be backed up; restore it from an older backup")
    if f"{BLOBS}{digest}" not in known:
        with contextlib.suppress(ConditionFailed):
            target.put_if_absent(f"{BLOBS}{digest}", data)
        known.add(f"{BLOBS}{digest}")
    return digest


def _blob(target: ObjectStore, digest: str) -> bytes:
    try:
        data = target.get(f"{BLOBS}{digest}").data
    except NotFound:
        raise StoreUnavailable(f"this backup lacks {BLOBS}{digest}; use another backup") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreUnavailable(f"{BLOBS}{digest} of this backup is damaged; use another backup")
    return data


def _void(manifests: Iterable[bytes]) -> set[str]:
    """Return the segments of void manifests."""
    return {m.segment for data in manifests if (m := Manifest.model_validate_json(data)).void}


def _put(store: ObjectStore, key: str, data: bytes) -> str:
    try:
        store.put_if_absent(key, data)
    except ConditionFailed:
        current = store.get(key).data
        # A segment or pair that differs is damaged; any other object that differs is newer than the backup.
        if current == data or not key.startswith(_IMMUTABLE):
            return "kept"
        store.put(key, data)
        return "mended"
    return "written"


def _put_manifest(store: ObjectStore, key: str, data: bytes) -> str:
    outcome = _put(store, key, data)
    if outcome == "kept" and Manifest.model_validate_json(data).void:
        store.put(key, data)
    return outcome


def _snapshot_key(name: str) -> str:
    return f"{SNAPSHOTS}{name}.json"
