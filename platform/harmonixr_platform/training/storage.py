"""The storage of checkpoints: a folder or an S3 prefix, as a pyarrow filesystem."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harmonixr_platform.training.config import JobError

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings


# Without this, Arrow's S3 client uploads chunks with a trailing checksum, which Ceph's gateway refuses (411).
# Each process reads it from its environment; ray_session passes it to Ray's workers.
S3_ENVIRONMENT = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "WHEN_REQUIRED",
}


@dataclass(frozen=True, slots=True)
class RunStorage:
    """A pyarrow filesystem and a path on it, as Ray's RunConfig takes them."""

    filesystem: Any
    path: str

    def read(self, name: str) -> bytes | None:
        """Return a file under the path, or None where there is none."""
        try:
            with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
                data: bytes = stream.read()
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file under the path."""
        target = f"{self.path}/{name}"
        self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
        with self.filesystem.open_output_stream(target) as stream:
            stream.write(data)


def open_storage(storage: str, settings: Settings) -> RunStorage:
    """Open `storage`: empty means the state folder, `s3://bucket/prefix` uses the S3 settings, else it is a folder."""
    from pyarrow import fs

    parts = urlsplit(storage)
    if parts.scheme == "s3":
        return RunStorage(_s3(settings), f"{parts.netloc}{parts.path}".rstrip("/"))
    if parts.scheme not in {"", "file"}:
        raise JobError(f"storage {storage}: give a folder or s3://bucket/prefix")
    folder = Path(parts.path) if storage else settings.state_dir / "train"
    return RunStorage(fs.LocalFileSystem(), str(folder.expanduser().resolve()))


def _s3(settings: Settings) -> Any:
    from pyarrow import fs

    for name, value in S3_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    endpoint = urlsplit(settings.s3_endpoint_url)
    return fs.S3FileSystem(
        access_key=settings.s3_access_key.get_secret_value() or None,
        secret_key=settings.s3_secret_key.get_secret_value() or None,
        region=settings.s3_region,
        endpoint_override=endpoint.netloc or None,
        scheme=endpoint.scheme or "https",
    )
