"""What can go wrong with a store.

HarmonixrError
└── StoreError
    ├── StoreUnavailable   the store does not answer, refuses us, or is set up so that it would lose data
    │   └── StoreFull      it takes nothing more until somebody makes room
    ├── NotFound           no object has this key
    └── ConditionFailed    the key exists already, or holds another version than expected
"""

from __future__ import annotations

import errno
from typing import ClassVar

from harmonixr_model.errors import HarmonixrError

# Disk full, quota used up, larger than a file may be.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class StoreError(HarmonixrError):
    """Something about a store. `status` is the HTTP status that says it best."""

    status: ClassVar[int] = 500


class StoreUnavailable(StoreError):
    """The store does not answer, refuses us, or is set up so that it would lose data. Trying again later may help."""

    status = 503


class StoreFull(StoreUnavailable):
    """The store takes nothing more until somebody makes room. What was acknowledged is there."""

    status = 507


class NotFound(StoreError):
    """No object has this key."""

    status = 404


class ConditionFailed(StoreError):
    """The key exists already, or holds another version than the caller expected; nothing was written."""

    status = 409


def disk_error(what: str, error: OSError) -> StoreUnavailable:
    """Return what a failed system call means for a store; `what` names the store and its folder."""
    if error.errno in _FULL:
        return StoreFull(f"{what} is full ({error.strerror}); make room, nothing that was acknowledged is lost")
    return StoreUnavailable(f"{what} failed: {error.strerror}; check disk and permissions")
