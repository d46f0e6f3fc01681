"""Make a pool of pairs in advance: random gaps in songs, each filled twice."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harmonixr_model.engine.engine import Sampling
from harmonixr_model.errors import HarmonixrError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Score
from harmonixr_model.music.song import Song
from harmonixr_model.prompt.controls import AttributeControls
from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.records.pairs import PairStore, make_pair
from harmonixr_platform.feedback.records.pools import PoolStore
from harmonixr_platform.requests import resolve_region, sampling_of
from harmonixr_platform.schemas import Candidate, ControlSpec, Pair, RegionSpec, SamplingSpec
from harmonixr_platform.stores.objects import ObjectStore

if TYPE_CHECKING:
    from harmonixr_model.fill.infiller import Fill

# Different temperatures give fills of different quality, from which a reward model learns.
TEMPERATURES = (0.8, 1.0, 1.2)
_MAX_BARS = 4
# With one track missing, the other tracks show what fits.
_ONE_TRACK = 0.75
_RESAMPLES = 4
_GAPS_TRIED = 20


class SupportsFill(Protocol):
    """The part of the Infiller that is used here."""

    def fill(
        self,
        song: Song,
        region: Region,
        *,
        constraints: Constraints | None = None,
        controls: AttributeControls | None = None,
        n: int = 1,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> list[Fill]:
        """Return `n` fills of a region."""


@dataclass(frozen=True, slots=True)
class FillModel:
    """A model that makes fills, with its version in the registry."""

    infiller: SupportsFill
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A song to make gaps in. All pairs of one piece are in the same split."""

    piece_id: str
    midi: bytes

    @classmethod
    def of(cls, midi: bytes) -> Piece:
        """Return the piece of a file; its id is a hash of the content."""
        return cls(hashlib.sha256(midi).hexdigest()[:16], midi)


@dataclass(frozen=True, slots=True)
class SkippedPair:
    """A pair that could not be made."""

    piece_id: str
    reason: str


def build_pool(
    store: ObjectStore,
    pieces: Sequence[Piece],
    *,
    pool: str,
    models: Sequence[FillModel],
    pairs: int,
    seed: int,
) -> Iterator[Pair | SkippedPair]:
    """Make pairs from the pieces in turn; a yielded pair is stored and in the pool, and its fills differ.

    With several models the two fills of a pair come from different ones. The same seed gives the same pairs.
    """
    if not pieces or not models:
        raise FeedbackError("a pool needs at least one song and one model")
    pair_store, pool_store = PairStore(store), PoolStore(store)
    for number in range(pairs):
        piece = pieces[number % len(pieces)]
        rng = random.Random(f"{seed}:{number}:{piece.piece_id}")
        try:
            pair = _random_pair(piece, models, rng)
        except HarmonixrError as error:
            yield SkippedPair(piece.piece_id, str(error))
            continue
        pool_store.add(pool, pair_store.put(pair).pair_id)
        yield pair


def _random_pair(piece: Piece, models: Sequence[FillModel], rng: random.Random) -> Pair:
    song = Song.parse(piece.midi)
    spec = random_gap(song.score, rng)
    chosen = rng.sample(models, 2) if len(models) > 1 else [models[0]] * 2
    first = _candidate(song, spec, chosen[0], rng)
    for _ in range(_RESAMPLES):
        second = _candidate(song, spec, chosen[1], rng)
        if second.midi_sha256 != first.midi_sha256:
            return make_pair(
                piece.midi, piece_id=piece.piece_id, region=spec, controls=ControlSpec(), first=first, second=second
            )
    raise FeedbackError(f"all fills of bars {spec.bars} are equal, so there is nothing to compare")


def random_gap(
    score: Score, rng: random.Random, *, min_bars: int = 1, max_bars: int = _MAX_BARS, one_track: float = _ONE_TRACK
) -> RegionSpec:
    """Return a random gap that contains notes: on one track with probability `one_track`, else on all tracks."""
    bars = score.bars
    for _ in range(_GAPS_TRIED):
        length = min(rng.randint(min_bars, max_bars), len(bars))
        first = rng.randrange(len(bars) - length + 1)
        start, end = bars[first].start, bars[first + length - 1].end
        with_notes = [
            index + 1 for index, track in enumerate(score.tracks) if any(start <= n.onset < end for n in track.notes)
        ]
        if with_notes:
            tracks: list[int | str] | None = [rng.choice(with_notes)] if rng.random() < one_track else None
            return RegionSpec(bars=f"{first + 1}-{first + length}", tracks=tracks)
    raise FeedbackError("no bars with notes were found in this song")


def _candidate(song: Song, spec: RegionSpec, model: FillModel, rng: random.Random) -> Candidate:
    seed = rng.randrange(2**31)
    sampling = SamplingSpec(seed=seed, temperature=rng.choice(TEMPERATURES)).for_comparing()
    region = resolve_region(spec, song)
    (fill,) = model.infiller.fill(song, region, n=1, seed=seed, sampling=sampling_of(sampling))
    return candidate_of(fill, model, sampling)


def candidate_of(fill: Fill, model: FillModel, sampling: SamplingSpec) -> Candidate:
    """Return a fill as one side of a pair."""
    return Candidate(
        model_version=model.version,
        checkpoint_sha256=model.sha256,
        sampling=sampling,
        seed=fill.seed,
        tokens=fill.tokens,
        midi_sha256=hashlib.sha256(fill.midi).hexdigest(),
        midi_base64=base64.b64encode(fill.midi).decode(),
    )
