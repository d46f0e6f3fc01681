"""Open the stores that the settings name: Redis (external or embedded) and objects (a folder or S3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from harmonixr_platform.stores.errors import StoreError
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.stores.streams import ExternalRedis, RecordStream, RedisServer

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings


def open_stream(settings: Settings) -> RecordStream:
    """Return the stream on the Redis that the settings name."""
    return RecordStream(redis_server(settings), timeout_s=settings.redis_timeout_s)


def redis_server(settings: Settings) -> RedisServer:
    """Return the Redis at `redis_url`, or else the embedded one, which is not started yet."""
    if settings.redis_url:
        return ExternalRedis(settings.redis_url)
    from harmonixr_platform.stores.embedded_redis import EmbeddedRedis

    return EmbeddedRedis(settings.state_dir, port=settings.redis_port, timeout_s=settings.redis_timeout_s)


def open_object_store(settings: Settings) -> ObjectStore:
    """Return the object store that the settings name."""
    return open_store_at(settings.objects_url, settings)


def open_store_at(address: str, settings: Settings) -> ObjectStore:
    """Return the store at `file:///folder`, `s3://bucket/prefix` or a folder's path.

    S3 endpoint and keys come from the settings. Adapters are imported only when used. Raises StoreError for any other
    address.
    """
    url = urlsplit(address)
    if url.scheme in {"", "file"}:
        from harmonixr_platform.stores.files import FileStore

        return FileStore(Path(unquote(url.path) if url.scheme else address).expanduser().resolve())
    if url.scheme != "s3":
        raise StoreError(f"{address!r} is no store address; give a folder, file:///folder or s3://bucket/prefix")
    from harmonixr_platform.stores.s3 import S3Store

    return S3Store(
        url.netloc,
        url.path.strip("/"),
        endpoint_url=settings.s3_endpoint_url or None,
        region=settings.s3_region,
        access_key=settings.s3_access_key.get_secret_value() or None,
        secret_key=settings.s3_secret_key.get_secret_value() or None,
    )
