"""Fills of gaps as pairs in a pool, made offline through the engine. Knows no HTTP and no listener."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from itertools import combinations

from harmonixr_model.fill.infiller import Fill, Infiller
from harmonixr_platform.feedback.records.pairs import PairStore, make_pair
from harmonixr_platform.feedback.records.pools import PoolStore
from harmonixr_platform.registry import Registry, Version
from harmonixr_platform.requests import sampling_of
from harmonixr_platform.schemas import Candidate, ControlSpec, RegionSpec, SamplingSpec
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.training.composed_gaps import Gap


class Contestant:
    """A version and what fills with it."""

    def __init__(self, registry: Registry, version: Version, *, temperature: float) -> None:
        self.version = version
        self.infiller = Infiller.load(registry.fetch(version))
        self._spec = SamplingSpec(temperature=temperature).for_comparing()

    def fill(self, gap: Gap, count: int, *, seed: int) -> list[Fill]:
        """Return fills of a gap, drawn with `seed` and those after it."""
        return self.infiller.fill(gap.song, gap.region, n=count, seed=seed, sampling=sampling_of(self._spec))

    def candidate(self, fill: Fill) -> Candidate:
        """Return a fill as one side of a pair."""
        return Candidate(
            model_version=self.version.version,
            checkpoint_sha256=self.version.sha256,
            sampling=self._spec.model_copy(update={"seed": fill.seed}),
            seed=fill.seed,
            tokens=fill.tokens,
            midi_sha256=hashlib.sha256(fill.midi).hexdigest(),
            midi_base64=base64.b64encode(fill.midi).decode(),
        )


def region_spec(gap: Gap) -> RegionSpec:
    """Return a gap as a request names it."""
    return RegionSpec(bars=gap.bars, tracks=[gap.track])


def put_all_pairs(store: ObjectStore, gap: Gap, sides: Sequence[Candidate], *, pool: str) -> int:
    """Put every pair of different fills of a gap into a pool; return how many there are."""
    return put_pairs(store, gap, list(combinations(sides, 2)), pool=pool)


def put_pairs(store: ObjectStore, gap: Gap, pairs: Sequence[tuple[Candidate, Candidate]], *, pool: str) -> int:
    """Put pairs into a pool, but those of two equal fills; return how many there are."""
    stored = 0
    for first, second in pairs:
        if first.midi_sha256 == second.midi_sha256:
            continue
        pair = make_pair(
            gap.midi,
            piece_id=gap.piece_id,
            region=region_spec(gap),
            controls=ControlSpec(),
            first=first,
            second=second,
        )
        PoolStore(store).add(pool, PairStore(store).put(pair).pair_id)
        stored += 1
    return stored
