"""Make all pairs of a study before its first listener arrives, so that no listener waits for a model.

Each gap's pairs are stored before the next gap is filled, so an interrupted run continues where it stopped. The study
opens when all pairs exist. The same definition, songs and models give the same pairs.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.music.song import Song
from harmonixr_platform.feedback.errors import BadStudy, FeedbackError
from harmonixr_platform.feedback.records.pairs import PairStore, make_pair
from harmonixr_platform.feedback.studies.definition import Arm, Study
from harmonixr_platform.feedback.studies.gold import broken_pair, identical_pair
from harmonixr_platform.feedback.studies.pool_pairs import FillModel, Piece, candidate_of, random_gap
from harmonixr_platform.feedback.studies.store import BegunStudy, GoldPair, StudyPair, StudyStore
from harmonixr_platform.requests import attribute_controls_of, constraints_of, resolve_region, sampling_of
from harmonixr_platform.schemas import Candidate, RegionSpec, Strict
from harmonixr_platform.stores.errors import ConditionFailed, NotFound
from harmonixr_platform.stores.objects import ObjectStore

_RESAMPLES = 3
_GOLD_TRIES = 4


class GapResult(Strict):
    """The pairs of one gap, or the reason why there are none."""

    pairs: tuple[StudyPair, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GapProgress:
    """One gap of the study is finished: `number` of `total`."""

    number: int
    total: int
    result: GapResult


def begin_study(
    store: ObjectStore,
    study: Study,
    pieces: Sequence[Piece],
    *,
    models: Mapping[str, FillModel],
    now: datetime,
) -> Iterator[GapProgress | BegunStudy]:
    """Make the pairs of every gap and the gold pairs, then open the study, which is yielded last.

    `models` has the model of each arm by the arm's name. Raises BadStudy if a study of this name has another
    definition, or if there are too few pairs for one rater.
    """
    studies = StudyStore(store)
    studies.check_free(study)
    if (begun := studies.get(study.name)) is not None:
        yield begun
        return
    versions = {arm.name: models[arm.name].version for arm in study.arms}
    folder = f"feedback/making/{_digest(study, versions, pieces)}/"
    total = len(pieces) * study.contexts.gaps.per_song
    pairs: list[StudyPair] = []
    for number in range(total):
        result = _stored_result(store, f"{folder}{number}.json")
        if result is None:
            result = _fill_gap(store, study, pieces[number % len(pieces)], models, number)
            with contextlib.suppress(ConditionFailed):
                store.put_if_absent(f"{folder}{number}.json", result.model_dump_json().encode())
        pairs += result.pairs
        yield GapProgress(number + 1, total, result)
    _check_enough(study, len(pairs))
    gold = _gold_pairs(store, study, pairs)
    yield studies.begin(BegunStudy(study=study, models=versions, pairs=tuple(pairs), gold=gold, begun=now))


def fills_of_gap(
    song: Song, spec: RegionSpec, study: Study, models: Mapping[str, FillModel], *, seed: int
) -> list[tuple[Arm, Candidate]]:
    """Return the arms' fills of a gap, all different; a fill that equals another one is sampled again."""
    found: list[tuple[Arm, Candidate]] = []
    region = resolve_region(spec, song)
    constraints, controls = constraints_of(study.controls), attribute_controls_of(study.controls)
    for arm in study.arms:
        sampling = arm.sampling.for_comparing()
        missing, tries = study.fills.per_arm, 0
        while missing and tries <= _RESAMPLES:
            # Consecutive seeds over the attempts of an arm; the seeds of different arms differ.
            first_seed = _seed(seed, arm.name) + tries * study.fills.per_arm
            fills = models[arm.name].infiller.fill(
                song,
                region,
                constraints=constraints,
                controls=controls,
                n=missing,
                seed=first_seed,
                sampling=sampling_of(sampling),
            )
            for fill in fills:
                candidate = candidate_of(fill, models[arm.name], sampling.model_copy(update={"seed": fill.seed}))
                if all(candidate.midi_sha256 != other.midi_sha256 for _, other in found):
                    found.append((arm, candidate))
                    missing -= 1
            tries += 1
    return found


def _fill_gap(
    store: ObjectStore, study: Study, piece: Piece, models: Mapping[str, FillModel], number: int
) -> GapResult:
    rng = random.Random(f"{study.contexts.seed}:{number}:{piece.piece_id}")
    gaps = study.contexts.gaps
    try:
        song = Song.parse(piece.midi)
        spec = random_gap(song.score, rng, min_bars=gaps.min_bars, max_bars=gaps.max_bars, one_track=gaps.one_track)
        fills = fills_of_gap(song, spec, study, models, seed=rng.randrange(2**31))
    except HarmonixrError as error:
        return GapResult(reason=str(error))
    pair_store, pairs = PairStore(store), []
    for (arm, first), (other, second) in combinations(fills, 2):
        if arm is other and not study.fills.within_arm:
            continue
        if rng.random() < 0.5:
            arm, first, other, second = other, second, arm, first
        pair = make_pair(
            piece.midi, piece_id=piece.piece_id, region=spec, controls=study.controls, first=first, second=second
        )
        pairs.append(StudyPair(pair_id=pair_store.put(pair).pair_id, first=arm.name, second=other.name))
    if not pairs:
        return GapResult(reason=f"all fills of bars {spec.bars} are equal, so there is nothing to compare")
    return GapResult(pairs=tuple(pairs))


def _gold_pairs(store: ObjectStore, study: Study, pairs: Sequence[StudyPair]) -> tuple[GoldPair, ...]:
    if not study.gold.share:
        return ()
    pair_store = PairStore(store)
    rng = random.Random(f"gold:{study.contexts.seed}:{study.name}")
    identical = round(study.gold.pairs * study.gold.identical)
    sources = [rng.choice(pairs) for _ in range(study.gold.pairs * _GOLD_TRIES)]
    found: dict[str, GoldPair] = {}
    for source in sources:
        if len(found) == study.gold.pairs:
            break
        pair = pair_store.get(source.pair_id)
        if len(found) < identical:
            equal = pair_store.put(identical_pair(pair, rng))
            found[equal.pair_id] = GoldPair(pair_id=equal.pair_id, expected="tie")
            continue
        with contextlib.suppress(FeedbackError):
            broken, expected = broken_pair(pair, rng)
            found[broken.pair_id] = GoldPair(pair_id=pair_store.put(broken).pair_id, expected=expected)
    return tuple(found.values())


def _check_enough(study: Study, pairs: int) -> None:
    plain = round(study.quotas.per_rater * (1 - study.gold.share - study.repeats.share))
    if pairs < plain:
        raise BadStudy(
            f"only {pairs} pairs could be made, and a rater judges about {plain} of them; add songs, raise "
            "contexts.gaps.per_song, or lower quotas.per_rater"
        )


def _stored_result(store: ObjectStore, key: str) -> GapResult | None:
    try:
        return GapResult.model_validate_json(store.get(key).data)
    except NotFound:
        return None


def _digest(study: Study, versions: Mapping[str, str], pieces: Sequence[Piece]) -> str:
    content = f"{study.version} {sorted(versions.items())} {[piece.piece_id for piece in pieces]}"
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big")
