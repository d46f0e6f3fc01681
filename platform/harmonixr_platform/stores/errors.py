"""What can go wrong with a store.

HarmonixrError
└── StoreError
    ├── StoreUnavailable   the store does not answer, refuses us, or is set up so that it would lose data
    ├── NotFound           no object has this key
    └── ConditionFailed    the key exists already, or holds another version than expected
"""

from __future__ import annotations

from typing import ClassVar

from harmonixr_model.errors import HarmonixrError


class StoreError(HarmonixrError):
    """Something about a store. `status` is the HTTP status that says it best."""

    status: ClassVar[int] = 500


class StoreUnavailable(StoreError):
    """The store does not answer, refuses us, or is set up so that it would lose data. Trying again later may help."""

    status = 503


class NotFound(StoreError):
    """No object has this key."""

    status = 404


class ConditionFailed(StoreError):
    """The key exists already, or holds another version than the caller expected; nothing was written."""

    status = 409
