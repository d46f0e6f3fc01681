"""Errors of the stores, with their HTTP status.

PlatformError
└── StoreError             500
    ├── StoreUnavailable   503
    │   └── StoreFull      507
    ├── NotFound           404
    └── ConditionFailed    409
"""

from __future__ import annotations

import errno

from harmonixr_platform.errors import PlatformError

# No space left, quota exceeded, file too large.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class StoreError(PlatformError):
    """A store cannot do what was requested."""


class StoreUnavailable(StoreError, status=503):
    """The store does not respond, refuses access, or is configured so that it could lose data. A retry may help."""


class StoreFull(StoreUnavailable, status=507):
    """The store has no space for another write. Everything that was acknowledged is stored."""


class NotFound(StoreError, status=404):
    """No object has this key."""


class ConditionFailed(StoreError, status=409):
    """The key exists already or holds another version than expected; nothing was written."""


def disk_error(store: str, error: OSError) -> StoreUnavailable:
    """Return the StoreError for a failed system call; `store` names the store and its folder in the message."""
    if error.errno in _FULL:
        return StoreFull(f"{store} is full ({error.strerror}); free some space, no acknowledged data is lost")
    return StoreUnavailable(f"{store} failed: {error.strerror}; check the disk and the permissions")
