"""Make pairs of fills for a pool, without HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harmonixr_model.fill.infiller import Fill, Infiller
from harmonixr_platform.feedback.records.pairs import PairStore, make_pair
from harmonixr_platform.feedback.records.pools import PoolStore
from harmonixr_platform.feedback.studies.pool_pairs import FillModel, candidate_of
from harmonixr_platform.registry import Registry, Version
from harmonixr_platform.requests import sampling_of
from harmonixr_platform.schemas import Candidate, ControlSpec, RegionSpec, SamplingSpec
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.training.composed_gaps import Gap


@dataclass(frozen=True, slots=True)
class GapFiller:
    """A model version that fills gaps at one temperature."""

    model: FillModel
    sampling: SamplingSpec

    @classmethod
    def load(cls, registry: Registry, version: Version, *, temperature: float) -> GapFiller:
        """Load a version of the registry."""
        model = FillModel(Infiller.load(registry.fetch(version)), version.version, version.sha256)
        return cls(model, SamplingSpec(temperature=temperature).for_comparing())

    def fill(self, gap: Gap, count: int, *, seed: int) -> list[Fill]:
        """Return fills of a gap; the first has `seed`, the others the seeds after it."""
        sampling = sampling_of(self.sampling)
        return self.model.infiller.fill(gap.song, gap.region, n=count, seed=seed, sampling=sampling)

    def candidate(self, fill: Fill) -> Candidate:
        """Return a fill as one side of a pair."""
        return candidate_of(fill, self.model, self.sampling.model_copy(update={"seed": fill.seed}))


def put_pairs(store: ObjectStore, gap: Gap, pairs: Iterable[tuple[Candidate, Candidate]], *, pool: str) -> int:
    """Put the pairs of two different fills into a pool; return their number."""
    stored = 0
    for first, second in pairs:
        if first.midi_sha256 == second.midi_sha256:
            continue
        pair = make_pair(
            gap.midi,
            piece_id=gap.piece_id,
            region=RegionSpec(bars=gap.bars, tracks=[gap.track]),
            controls=ControlSpec(),
            first=first,
            second=second,
        )
        PoolStore(store).add(pool, PairStore(store).put(pair).pair_id)
        stored += 1
    return stored
