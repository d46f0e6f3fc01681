"""Make pools of pairs in advance: gaps in songs, filled twice. Knows no HTTP and no Ray."""

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

# Different temperatures make fills that differ in kind, which is what a reward model has to learn from.
TEMPERATURES = (0.8, 1.0, 1.2)
_MAX_BARS = 4
# The rest of the band says most about what fits.
_ONE_TRACK = 0.75
_REDRAWS = 4
_GAPS_TRIED = 20


class Fills(Protocol):
    """What is needed of an infiller."""

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
class Contestant:
    """A model that makes fills, and its name in the registry."""

    infiller: Fills
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A song to make gaps in; pairs of one piece stay together when data is split."""

    piece_id: str
    midi: bytes

    @classmethod
    def of(cls, midi: bytes) -> Piece:
        """Return the piece of a file, named by its content."""
        return cls(hashlib.sha256(midi).hexdigest()[:16], midi)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A pair that could not be made."""

    piece_id: str
    reason: str


def build_pool(
    store: ObjectStore,
    pieces: Sequence[Piece],
    *,
    pool: str,
    contestants: Sequence[Contestant],
    pairs: int,
    seed: int,
) -> Iterator[Pair | Skipped]:
    """Make pairs from the pieces in turn, each stored and in the pool before it is yielded; never two equal fills.

    With several contestants the two fills of a pair come from different ones. The same seed makes the same pairs.
    """
    if not pieces or not contestants:
        raise FeedbackError("a pool needs at least one song and one model")
    pair_store, pool_store = PairStore(store), PoolStore(store)
    for number in range(pairs):
        piece = pieces[number % len(pieces)]
        rng = random.Random(f"{seed}:{number}:{piece.piece_id}")
        try:
            pair = _pair(piece, contestants, rng)
        except HarmonixrError as error:
            yield Skipped(piece.piece_id, str(error))
            continue
        pool_store.add(pool, pair_store.put(pair).pair_id)
        yield pair


def _pair(piece: Piece, contestants: Sequence[Contestant], rng: random.Random) -> Pair:
    song = Song.parse(piece.midi)
    spec = random_gap(song.score, rng)
    chosen = rng.sample(contestants, 2) if len(contestants) > 1 else [contestants[0]] * 2
    first = _candidate(song, spec, chosen[0], rng)
    for _ in range(_REDRAWS):
        second = _candidate(song, spec, chosen[1], rng)
        if second.midi_sha256 != first.midi_sha256:
            return make_pair(
                piece.midi, piece_id=piece.piece_id, region=spec, controls=ControlSpec(), first=first, second=second
            )
    raise FeedbackError(f"the model fills {spec.bars} the same way each time, so there is nothing to compare")


def random_gap(
    score: Score, rng: random.Random, *, min_bars: int = 1, max_bars: int = _MAX_BARS, one_track: float = _ONE_TRACK
) -> RegionSpec:
    """Return a gap of so many bars that holds notes: on one track with the chance `one_track`, else on all."""
    bars = score.bars
    for _ in range(_GAPS_TRIED):
        length = min(rng.randint(min_bars, max_bars), len(bars))
        first = rng.randrange(len(bars) - length + 1)
        start, end = bars[first].start, bars[first + length - 1].end
        sounding = [
            index + 1 for index, track in enumerate(score.tracks) if any(start <= n.onset < end for n in track.notes)
        ]
        if sounding:
            tracks: list[int | str] | None = [rng.choice(sounding)] if rng.random() < one_track else None
            return RegionSpec(bars=f"{first + 1}-{first + length}", tracks=tracks)
    raise FeedbackError("no bars with notes were found in this song")


def _candidate(song: Song, spec: RegionSpec, contestant: Contestant, rng: random.Random) -> Candidate:
    seed = rng.randrange(2**31)
    sampling = SamplingSpec(seed=seed, temperature=rng.choice(TEMPERATURES)).for_comparing()
    (fill,) = contestant.infiller.fill(
        song,
        resolve_region(spec, song),
        n=1,
        seed=seed,
        sampling=sampling_of(sampling),
    )
    return candidate_of(fill, contestant, sampling)


def candidate_of(fill: Fill, contestant: Contestant, sampling: SamplingSpec) -> Candidate:
    """Return a fill as one side of a pair."""
    return Candidate(
        model_version=contestant.version,
        checkpoint_sha256=contestant.sha256,
        sampling=sampling,
        seed=fill.seed,
        tokens=fill.tokens,
        midi_sha256=hashlib.sha256(fill.midi).hexdigest(),
        midi_base64=base64.b64encode(fill.midi).decode(),
    )
