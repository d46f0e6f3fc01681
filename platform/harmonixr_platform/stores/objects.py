"""The interface to an object store: whole values under keys, with conditional writes.

A version identifies an object's content: two equal values have equal versions (S3 uses their MD5). A caller of
`compare_and_swap` therefore keeps a serial number in the value, so that a change A → B → A is noticed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harmonixr_platform.stores.errors import ConditionFailed, StoreError, StoreUnavailable

# Valid on every file system and every S3 server: no empty parts, none that begins with a dot, no special characters.
_KEY = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199}(/[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199})*")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it was read."""

    data: bytes
    version: str


class ObjectStore(Protocol):
    """Objects under keys like `feedback/pairs/ab12.json`. Every method may raise StoreUnavailable.

    When a write returns, it is durable and every later read sees it. No key may be a folder of another key.
    """

    def get(self, key: str) -> StoredObject:
        """Return the object; raise NotFound."""

    def put(self, key: str, data: bytes) -> str:
        """Write or overwrite; return the version."""

    def put_if_absent(self, key: str, data: bytes) -> str:
        """Write only if the key does not exist; return the version, or raise ConditionFailed."""

    def compare_and_swap(self, key: str, data: bytes, *, expected: str) -> str:
        """Write only if the key holds version `expected`; return the new version, or raise ConditionFailed."""

    def list(self, prefix: str = "") -> tuple[str, ...]:
        """Return the keys that start with `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Remove the object if it exists."""


def check_key(key: str) -> str:
    """Return the key; raise StoreError if it is not valid in every kind of store."""
    if not _KEY.fullmatch(key):
        raise StoreError(
            f"{key!r} cannot be a key; use parts of letters, digits, dots, '-', '_' and '=' joined by single slashes"
        )
    return key


def probe_conditions(store: ObjectStore) -> None:
    """Try both conditional writes on a temporary key; raise StoreUnavailable if the store ignores one.

    Some S3 servers overwrite silently. Aliases and manifests would be lost there without an error.
    """
    key = f"probe/{secrets.token_hex(8)}"
    try:
        version = store.put_if_absent(key, b"first")
        _expect_refusal("If-None-Match", lambda: store.put_if_absent(key, b"second"))
        store.compare_and_swap(key, b"third", expected=version)
        _expect_refusal("If-Match", lambda: store.compare_and_swap(key, b"fourth", expected=version))
        if store.get(key).data != b"third":
            raise StoreUnavailable("this object store changed an object although it refused the write; use another")
    finally:
        store.delete(key)


def _expect_refusal(condition: str, write: Callable[[], str]) -> None:
    try:
        write()
    except ConditionFailed:
        return
    raise StoreUnavailable(
        f"this object store ignores {condition} and would overwrite silently; "
        "use one that supports conditional writes (Amazon S3, Ceph, MinIO) or a local folder"
    )
