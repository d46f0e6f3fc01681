"""Pools of pairs made in advance, and which pair to show next. Knows nothing of raters' names or of how fills are made.

A pair is shown where its outcome is least known: the variance of its win rate after the votes so far. A share ε of the
choices is uniform, so that every pair keeps a known, positive chance; that chance is written with each comparison.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from harmonixr_platform.feedback.errors import UnknownPool
from harmonixr_platform.feedback.judgments import PairTally
from harmonixr_platform.stores.errors import ConditionFailed
from harmonixr_platform.stores.objects import ObjectStore

EPSILON = 0.1
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FRESH = PairTally()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A pair to show and the chance with which it was chosen."""

    pair_id: str
    propensity: float


class PoolStore:
    """Which pairs belong to which pool: one small object a pair, so that many may add at once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def add(self, pool: str, pair_id: str) -> None:
        """Put a stored pair into a pool; nothing happens when it is in it."""
        with contextlib.suppress(ConditionFailed):
            self._store.put_if_absent(f"{_folder(pool)}{pair_id}", b"")

    def pair_ids(self, pool: str) -> tuple[str, ...]:
        """Return the pairs of a pool, sorted; raise UnknownPool when it has none."""
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


def choose_pair(
    pair_ids: Sequence[str],
    tally: Mapping[str, PairTally],
    seen: Collection[str],
    *,
    rng: random.Random,
    epsilon: float = EPSILON,
) -> Chosen:
    """Return a pair this rater has not seen, or any when all were seen."""
    open_ids = [pair_id for pair_id in pair_ids if pair_id not in seen] or list(pair_ids)
    wanted = {pair_id: _want(tally.get(pair_id, _FRESH)) for pair_id in open_ids}
    most = max(wanted.values())
    best = [pair_id for pair_id in open_ids if wanted[pair_id] == most]
    pair_id = rng.choice(open_ids if rng.random() < epsilon else best)
    propensity = epsilon / len(open_ids) + ((1 - epsilon) / len(best) if pair_id in best else 0.0)
    return Chosen(pair_id, propensity)


def _want(tally: PairTally) -> tuple[float, int]:
    # Beta(1, 1) before any vote; a tie is half a win each. Among equals the pair shown less often comes first, so that
    # raters who listen at the same time get different pairs.
    first, second = 1 + tally.first + tally.tie / 2, 1 + tally.second + tally.tie / 2
    total = first + second
    return first * second / (total**2 * (total + 1)), -tally.shown


def _folder(pool: str) -> str:
    if not _NAME.fullmatch(pool):
        raise UnknownPool(f"{pool!r} cannot be the name of a pool; use small letters, digits, '-' and '_'")
    return f"feedback/pools/{pool}/"
