"""The one interface to objects: whole values under keys, with conditional writes. Knows no particular store.

A version names an object's content: two equal values have equal versions (S3 tags single PUTs by their MD5). Whoever
compares and swaps therefore keeps a serial number in the value, lest A → B → A go unnoticed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from harmonixr_platform.stores.errors import ConditionFailed, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings

# Portable to every file system and every S3: no empty, dotted or odd parts.
_KEY = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199}(/[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199})*")


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was read."""

    data: bytes
    version: str


class ObjectStore(Protocol):
    """Objects under keys like `feedback/pairs/ab12.json`. Every method may raise StoreUnavailable.

    When a write returns, it is durable and every later read sees it. No key may be a folder of another key.
    """

    def get(self, key: str) -> Stored:
        """Return the object; raise NotFound."""

    def put(self, key: str, data: bytes) -> str:
        """Write, whatever was there; return the version."""

    def put_if_absent(self, key: str, data: bytes) -> str:
        """Write only if the key does not exist; return the version, or raise ConditionFailed."""

    def compare_and_swap(self, key: str, data: bytes, *, expected: str) -> str:
        """Write only if the key holds version `expected`; return the new version, or raise ConditionFailed."""

    def list(self, prefix: str = "") -> tuple[str, ...]:
        """Return the keys that start with `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""


def open_object_store(settings: Settings) -> ObjectStore:
    """Return the store that the settings name."""
    return open_store_at(settings.objects_url, settings)


def open_store_at(address: str, settings: Settings) -> ObjectStore:
    """Return the store at `file:///folder`, `s3://bucket/prefix` or a folder's path, with the settings' S3 server.

    Adapters are imported only when used. Raises StoreError where the address names no such place.
    """
    url = urlsplit(address)
    if url.scheme in {"", "file"}:
        from harmonixr_platform.stores.files import FileStore

        return FileStore(Path(unquote(url.path) if url.scheme else address).expanduser().resolve())
    if url.scheme != "s3":
        raise StoreError(f"{address!r} names no store; give a folder, file:///folder or s3://bucket/prefix")
    from harmonixr_platform.stores.s3 import S3Store

    return S3Store(
        url.netloc,
        url.path.strip("/"),
        endpoint_url=settings.s3_endpoint_url or None,
        region=settings.s3_region,
        access_key=settings.s3_access_key.get_secret_value() or None,
        secret_key=settings.s3_secret_key.get_secret_value() or None,
    )


def check_key(key: str) -> str:
    """Return the key, or raise StoreError when some store could not hold it."""
    if not _KEY.fullmatch(key):
        raise StoreError(
            f"{key!r} cannot be a key; use parts of letters, digits, dots, '-', '_' and '=' joined by single slashes"
        )
    return key


def probe_conditions(store: ObjectStore) -> None:
    """Try both conditional writes on a key of our own; raise StoreUnavailable when the store ignores one.

    Some S3 servers overwrite silently: aliases and manifests would be lost there without anyone noticing.
    """
    key = f"probe/{secrets.token_hex(8)}"
    try:
        version = store.put_if_absent(key, b"first")
        _expect_refusal("If-None-Match", lambda: store.put_if_absent(key, b"second"))
        store.compare_and_swap(key, b"third", expected=version)
        _expect_refusal("If-Match", lambda: store.compare_and_swap(key, b"fourth", expected=version))
        if store.get(key).data != b"third":
            raise StoreUnavailable("this object store changed an object although the write was refused; use another")
    finally:
        store.delete(key)


def _expect_refusal(condition: str, write: Callable[[], str]) -> None:
    try:
        write()
    except ConditionFailed:
        return
    raise StoreUnavailable(
        f"this object store ignores {condition} and would overwrite silently; "
        "use one that keeps conditional writes (Amazon S3, Ceph, MinIO) or a local folder"
    )
