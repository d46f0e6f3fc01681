"""Objects as files in one folder. A crash at any point leaves whole objects only.

A write goes to a temporary file, which is synced and then linked or renamed into place; then the folder is synced. A
reader sees the old object or the new one, never a part. A lock file serializes the writers of one key; the kernel
releases it when a writer dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmonixr_platform.stores.errors import ConditionFailed, NotFound, StoreUnavailable, disk_error
from harmonixr_platform.stores.objects import StoredObject, check_key

# Keys cannot begin with a dot, so no object has one of these names.
_DRAFTS, _LOCKS = ".drafts", ".locks"
# Errors of file systems without hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


class FileStore:
    """An ObjectStore in a local folder; the first write creates the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> StoredObject:
        """Return the object; raise NotFound."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound(f"no object {key!r} in {self.root}") from None
        except OSError as error:
            raise self._unavailable(error) from error
        return StoredObject(data, _version(data))

    def put(self, key: str, data: bytes) -> str:
        """Write or overwrite; return the version."""
        path = self._path(key)
        with self._writing(key), self._draft(data) as draft:
            self._replace(draft, path)
        return _version(data)

    def put_if_absent(self, key: str, data: bytes) -> str:
        """Write only if the key does not exist; return the version, or raise ConditionFailed."""
        path = self._path(key)
        with self._writing(key), self._draft(data) as draft:
            self._make_folder(path.parent)
            try:
                os.link(draft, path)
            except FileExistsError:
                raise ConditionFailed(f"object {key!r} exists already") from None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if path.exists():
                    raise ConditionFailed(f"object {key!r} exists already") from None
                os.replace(draft, path)
            _sync_folder(path.parent)
        return _version(data)

    def compare_and_swap(self, key: str, data: bytes, *, expected: str) -> str:
        """Write only if the key holds version `expected`; return the new version, or raise ConditionFailed."""
        path = self._path(key)
        with self._writing(key), self._draft(data) as draft:
            held = _version(path.read_bytes()) if path.is_file() else None
            if held != expected:
                raise ConditionFailed(f"object {key!r} has changed since it was read; read it again")
            self._replace(draft, path)
        return _version(data)

    def list(self, prefix: str = "") -> tuple[str, ...]:
        """Return the keys that start with `prefix`, sorted."""
        # Walk only the folder that the prefix names, not the whole store.
        top = self.root / prefix.rpartition("/")[0]
        found = []
        for folder, subfolders, names in os.walk(top):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            inside = Path(folder).relative_to(self.root)
            found += [key for name in names if (key := (inside / name).as_posix()).startswith(prefix)]
        return tuple(sorted(found))

    def delete(self, key: str) -> None:
        """Remove the object if it exists."""
        path = self._path(key)
        with self._writing(key):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            _sync_folder(path.parent)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """Hold the lock of the key's shard; turn OSError into StoreUnavailable."""
        try:
            locks = self.root / _LOCKS
            self._make_folder(locks)
            with open(locks / hashlib.sha256(key.encode()).hexdigest()[:2], "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise self._unavailable(error) from error

    @contextmanager
    def _draft(self, data: bytes) -> Iterator[Path]:
        drafts = self.root / _DRAFTS
        self._make_folder(drafts)
        draft = drafts / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with open(draft, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def _replace(self, draft: Path, path: Path) -> None:
        self._make_folder(path.parent)
        os.replace(draft, path)
        _sync_folder(path.parent)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return disk_error(f"the object store in {self.root}", error)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
