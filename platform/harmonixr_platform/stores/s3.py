"""Objects on S3 or a compatible server. The only module that imports boto3.

Conditions are sent with single PUTs only, since servers implement them incorrectly elsewhere. Each conditional write
stores a random marker in the object's metadata. An error response (412 or 5xx) may follow a write that succeeded, when
the first response was lost and the client retried. The marker shows whether the stored object is our own write.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from harmonixr_platform.stores.errors import ConditionFailed, NotFound, StoreError, StoreFull, StoreUnavailable
from harmonixr_platform.stores.objects import StoredObject, check_key

# Path-style addresses, and no checksums unless required: Ceph and others do not support the newer defaults.
_CONFIG = {
    "signature_version": "s3v4",
    "s3": {"addressing_style": "path"},
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
    "connect_timeout": 2,
    "read_timeout": 20,
    "retries": {"total_max_attempts": 3, "mode": "standard"},
}
_MISSING = {"404", "NoSuchKey", "NotFound"}
_REFUSED = {409, 412}
_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}


class S3Store:
    """An ObjectStore in one bucket, under a prefix. The bucket must exist; `create_bucket` creates it."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str = "us-east-1",
        access_key: str | None = None,
        secret_key: str | None = None,
    ) -> None:
        if not bucket:
            raise StoreError("the object store's address names no bucket; give s3://bucket/prefix")
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self._where = f"s3://{bucket} at {endpoint_url or 'Amazon S3'}"
        try:
            self._client: Any = boto3.session.Session().client(
                "s3",
                endpoint_url=endpoint_url,
                region_name=region,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
                config=Config(**_CONFIG),
            )
        except (BotoCoreError, ValueError) as error:
            raise StoreError(f"{self._where} cannot be used: {error}") from error
        self._client.meta.events.register("before-call.s3.PutObject", _strip_etag_quotes)

    def create_bucket(self) -> None:
        """Create the bucket unless it exists."""
        existing = self._client.exceptions.BucketAlreadyOwnedByYou, self._client.exceptions.BucketAlreadyExists
        with self._store_errors(""), contextlib.suppress(*existing):
            self._client.create_bucket(Bucket=self.bucket)

    def get(self, key: str) -> StoredObject:
        """Return the object; raise NotFound."""
        with self._store_errors(key):
            response = self._client.get_object(Bucket=self.bucket, Key=self._key(key))
            return StoredObject(response["Body"].read(), _version(response))

    def put(self, key: str, data: bytes) -> str:
        """Write or overwrite; return the version."""
        with self._store_errors(key):
            return _version(self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data))

    def put_if_absent(self, key: str, data: bytes) -> str:
        """Write only if the key does not exist; return the version, or raise ConditionFailed."""
        return self._put_on_condition(key, data, IfNoneMatch="*")

    def compare_and_swap(self, key: str, data: bytes, *, expected: str) -> str:
        """Write only if the key holds version `expected`; return the new version, or raise ConditionFailed."""
        return self._put_on_condition(key, data, IfMatch=expected)

    def list(self, prefix: str = "") -> tuple[str, ...]:
        """Return the keys that start with `prefix`, sorted."""
        found = []
        with self._store_errors(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                found += [entry["Key"][len(self.prefix) :] for entry in page.get("Contents", [])]
        return tuple(sorted(found))

    def delete(self, key: str) -> None:
        """Remove the object if it exists."""
        with self._store_errors(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def _put_on_condition(self, key: str, data: bytes, **condition: str) -> str:
        marker = secrets.token_hex(16)
        target = {"Bucket": self.bucket, "Key": self._key(key)}
        try:
            return _version(self._client.put_object(**target, Body=data, Metadata={"writer": marker}, **condition))
        except (BotoCoreError, ClientError) as error:
            return self._settle(error, key, marker, expected=condition.get("IfMatch"))

    def _settle(self, error: Exception, key: str, marker: str, *, expected: str | None) -> str:
        """Find out whether a conditional write succeeded although the response was an error."""
        refused = isinstance(error, ClientError) and _status(error) in _REFUSED
        if isinstance(error, ClientError) and not refused and _status(error) < 500 and not _is_missing(error):
            raise self._store_error(error, key) from error
        try:
            current = self._client.head_object(Bucket=self.bucket, Key=self._key(key))
        except (BotoCoreError, ClientError) as second:
            if isinstance(second, ClientError) and _is_missing(second) and expected is not None:
                raise ConditionFailed(f"object {key!r} was deleted; read it again") from error
            raise self._store_error(error, key) from error
        if current["Metadata"].get("writer") == marker:
            return _version(current)
        # On Ceph the loser of a race may receive a 500. The key's present content shows that it lost.
        if refused or _version(current) != expected:
            raise ConditionFailed(f"object {key!r} exists already or has changed; read it again") from error
        raise self._store_error(error, key) from error

    def _key(self, key: str) -> str:
        return self.prefix + check_key(key)

    @contextlib.contextmanager
    def _store_errors(self, key: str) -> Iterator[None]:
        """Turn boto3's errors into StoreErrors."""
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise self._store_error(error, key) from error

    def _store_error(self, error: Exception, key: str) -> StoreError:
        if not isinstance(error, ClientError):
            return StoreUnavailable(
                f"{self._where} does not respond ({type(error).__name__}); check the address and the network"
            )
        code = error.response["Error"]["Code"]
        if code == "NoSuchBucket":
            return StoreUnavailable(f"{self._where} does not exist; create the bucket first")
        if _is_missing(error):
            return NotFound(f"no object {key!r} in {self._where}")
        if code in _FULL or _status(error) == StoreFull.status:
            return StoreFull(f"{self._where} is full ({code}); free some space, no acknowledged data is lost")
        return StoreUnavailable(f"{self._where} refused: {code} ({_status(error)}); check the keys and permissions")


def _strip_etag_quotes(params: dict[str, Any], **_: object) -> None:
    # Ceph compares If-Match with the unquoted tag, while botocore quotes it.
    match = params["headers"].get("If-Match")
    if match:
        params["headers"]["If-Match"] = match.strip('"')


def _version(response: dict[str, Any]) -> str:
    tag: str = response["ETag"]
    return tag.strip('"')


def _status(error: ClientError) -> int:
    status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status


def _is_missing(error: ClientError) -> bool:
    return error.response["Error"]["Code"] in _MISSING
