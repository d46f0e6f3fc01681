"""Pools of pairs that belong to no study."""

from __future__ import annotations

import contextlib
import re

from harmonixr_platform.feedback.errors import UnknownPool
from harmonixr_platform.stores.errors import ConditionFailed
from harmonixr_platform.stores.objects import ObjectStore

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class PoolStore:
    """The pairs of each pool: one empty object for each pair, so that several processes may add pairs at once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def add(self, pool: str, pair_id: str) -> None:
        """Add a stored pair to a pool unless it is in it."""
        with contextlib.suppress(ConditionFailed):
            self._store.put_if_absent(f"{_folder(pool)}{pair_id}", b"")

    def pair_ids(self, pool: str) -> tuple[str, ...]:
        """Return the pairs of a pool, sorted; raise UnknownPool if it has none."""
        folder = _folder(pool)
        found = tuple(key.removeprefix(folder) for key in self._store.list(folder))
        if not found:
            raise UnknownPool(
                f"pool {pool!r} has no pairs; make some with `harmonixr feedback pool --name {pool} SONG.mid`"
            )
        return found

    def names(self) -> tuple[str, ...]:
        """Return the pools that have pairs."""
        return tuple(sorted({key.split("/")[2] for key in self._store.list("feedback/pools/")}))


def checked_name(name: str) -> str:
    """Return the name of a pool or study; raise UnknownPool if it is not valid."""
    if not _NAME.fullmatch(name):
        raise UnknownPool(f"{name!r} cannot be the name of a pool or study; use small letters, digits, '-' and '_'")
    return name


def _folder(pool: str) -> str:
    return f"feedback/pools/{checked_name(pool)}/"
