"""Objects on S3 or a server that speaks it. The only module that imports boto3; knows nothing of what is stored.

Conditions are sent on single PUTs only: servers get them wrong elsewhere. Each write carries a mark of its own in the
object's metadata. A refusal (412) or a failure (5xx) may follow a write that did land, when its answer was lost and the
client tried again; the mark tells our write from another's.
"""

from __future__ import annotations

import secrets
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from harmonixr_platform.stores.errors import ConditionFailed, NotFound, StoreError, StoreFull, StoreUnavailable
from harmonixr_platform.stores.objects import Stored, check_key

# Path style and no checksums unless asked: Ceph and others refuse or misread the newer defaults.
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
    """An ObjectStore on one bucket, under a prefix. The bucket must exist; `create_bucket` makes it."""

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
        """Make the bucket unless it is ours already."""
        try:
            self._client.create_bucket(Bucket=self.bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise self._failure(error, "") from error
        except BotoCoreError as error:
            raise self._failure(error, "") from error

    def get(self, key: str) -> Stored:
        """Return the object; raise NotFound."""
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=self._key(key))
            return Stored(answer["Body"].read(), answer["ETag"].strip('"'))
        except (BotoCoreError, ClientError) as error:
            raise self._failure(error, key) from error

    def put(self, key: str, data: bytes) -> str:
        """Write, whatever was there; return the version."""
        try:
            answer = self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data)
        except (BotoCoreError, ClientError) as error:
            raise self._failure(error, key) from error
        return _version(answer)

    def put_if_absent(self, key: str, data: bytes) -> str:
        """Write only if the key does not exist; return the version, or raise ConditionFailed."""
        return self._put_on_condition(key, data, IfNoneMatch="*")

    def compare_and_swap(self, key: str, data: bytes, *, expected: str) -> str:
        """Write only if the key holds version `expected`; return the new version, or raise ConditionFailed."""
        return self._put_on_condition(key, data, IfMatch=expected)

    def list(self, prefix: str = "") -> tuple[str, ...]:
        """Return the keys that start with `prefix`, sorted."""
        found = []
        try:
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                found += [entry["Key"][len(self.prefix) :] for entry in page.get("Contents", [])]
        except (BotoCoreError, ClientError) as error:
            raise self._failure(error, prefix) from error
        return tuple(sorted(found))

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""
        try:
            self._client.delete_object(Bucket=self.bucket, Key=self._key(key))
        except (BotoCoreError, ClientError) as error:
            raise self._failure(error, key) from error

    def _put_on_condition(self, key: str, data: bytes, **condition: str) -> str:
        mark = secrets.token_hex(16)
        target = {"Bucket": self.bucket, "Key": self._key(key)}
        try:
            return _version(self._client.put_object(**target, Body=data, Metadata={"writer": mark}, **condition))
        except (BotoCoreError, ClientError) as error:
            return self._settle(error, key, mark, expected=condition.get("IfMatch"))

    def _settle(self, error: Exception, key: str, mark: str, *, expected: str | None) -> str:
        """Find out what became of a conditional write that was answered by an error."""
        refused = isinstance(error, ClientError) and _status(error) in _REFUSED
        if isinstance(error, ClientError) and not refused and _status(error) < 500 and not _is_missing(error):
            raise self._failure(error, key) from error
        try:
            held = self._client.head_object(Bucket=self.bucket, Key=self._key(key))
        except (BotoCoreError, ClientError) as second:
            if isinstance(second, ClientError) and _is_missing(second) and expected is not None:
                raise ConditionFailed(f"object {key!r} is gone; read it again") from error
            raise self._failure(error, key) from error
        if held["Metadata"].get("writer") == mark:
            return _version(held)
        # A racing loser may see 500 on Ceph; what the key holds now says that it lost.
        if refused or _version(held) != expected:
            raise ConditionFailed(f"object {key!r} exists already or has changed; read it again") from error
        raise self._failure(error, key) from error

    def _key(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _failure(self, error: Exception, key: str) -> StoreError:
        if not isinstance(error, ClientError):
            return StoreUnavailable(
                f"{self._where} does not answer ({type(error).__name__}); check address and network"
            )
        code = error.response["Error"]["Code"]
        if code == "NoSuchBucket":
            return StoreUnavailable(f"{self._where} does not exist; create the bucket first")
        if _is_missing(error):
            return NotFound(f"no object {key!r} in {self._where}")
        if code in _FULL or _status(error) == StoreFull.status:
            return StoreFull(f"{self._where} is full ({code}); make room, nothing that was acknowledged is lost")
        return StoreUnavailable(f"{self._where} refused: {code} ({_status(error)}); check keys and permissions")


def _strip_etag_quotes(params: dict[str, Any], **_: object) -> None:
    # Ceph compares If-Match with the bare tag, while botocore quotes what it sends.
    match = params["headers"].get("If-Match")
    if match:
        params["headers"]["If-Match"] = match.strip('"')


def _version(answer: dict[str, Any]) -> str:
    tag: str = answer["ETag"]
    return tag.strip('"')


def _status(error: ClientError) -> int:
    status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status


def _is_missing(error: ClientError) -> bool:
    return error.response["Error"]["Code"] in _MISSING
