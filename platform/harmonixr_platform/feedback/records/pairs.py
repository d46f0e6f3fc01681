"""Pairs of fills of one gap, each stored once under the hash of its content."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from functools import lru_cache
from typing import Any

from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_platform.feedback.errors import UnknownPair
from harmonixr_platform.schemas import Candidate, ControlSpec, Pair, RegionSpec
from harmonixr_platform.schemas.base import content_json
from harmonixr_platform.stores.errors import ConditionFailed, NotFound
from harmonixr_platform.stores.objects import ObjectStore

_CACHED_PAIRS = 512


def make_pair(
    context: bytes,
    *,
    piece_id: str,
    region: RegionSpec,
    controls: ControlSpec,
    first: Candidate,
    second: Candidate,
) -> Pair:
    """Return the pair of two fills of `context`; its id is the hash of its content."""
    rest: dict[str, Any] = {
        "context_base64": base64.b64encode(context).decode(),
        "context_sha256": hashlib.sha256(context).hexdigest(),
        "piece_id": piece_id,
        "region": region,
        "controls": controls,
        "vocabulary_hash": str(VOCAB.hash),
        "first": first,
        "second": second,
    }
    unnamed = Pair(pair_id="", **rest)
    return unnamed.model_copy(update={"pair_id": pair_hash(unnamed)})


def pair_hash(pair: Pair) -> str:
    """Return the id of a pair: the hash of its content."""
    content = content_json(pair, without=frozenset({"pair_id"}))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class PairStore:
    """Pairs in an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._cached = lru_cache(_CACHED_PAIRS)(self._read)

    def put(self, pair: Pair) -> Pair:
        """Store the pair unless it is stored already; return it."""
        with contextlib.suppress(ConditionFailed):
            self._store.put_if_absent(pair_key(pair.pair_id), pair.model_dump_json().encode())
        return pair

    def get(self, pair_id: str) -> Pair:
        """Return the pair; raise UnknownPair if there is none, or its content does not match its id."""
        return self._cached(pair_id)

    def _read(self, pair_id: str) -> Pair:
        try:
            pair = Pair.model_validate_json(self._store.get(pair_key(pair_id)).data)
        except NotFound:
            raise UnknownPair(f"there is no pair {pair_id}") from None
        if pair.pair_id != pair_id or pair_hash(pair) != pair_id:
            raise UnknownPair(f"the stored pair {pair_id} was changed after it was made; restore it from a backup")
        return pair


def pair_key(pair_id: str) -> str:
    """Return the key of a pair in the object store."""
    return f"feedback/pairs/{pair_id}.json"
