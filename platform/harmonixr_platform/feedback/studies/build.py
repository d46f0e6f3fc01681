"""Make every pair of a study before its first listener comes, so that nobody waits for a model.

Each gap's pairs are stored before the next gap is begun, so a run that was cut off goes on where it stopped. The study
opens when all of it is there. The same definition, songs and models make the same pairs. Knows no HTTP and no Ray.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

from pydantic import TypeAdapter

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.music.song import Song
from harmonixr_platform.feedback.errors import BadStudy, FeedbackError
from harmonixr_platform.feedback.records.pairs import PairStore, make_pair
from harmonixr_platform.feedback.studies.definition import Arm, Study
from harmonixr_platform.feedback.studies.generate import Contestant, Piece, candidate_of, random_gap
from harmonixr_platform.feedback.studies.gold import broken_pair, identical_pair
from harmonixr_platform.feedback.studies.store import Begun, GoldPair, StudyPair, StudyStore
from harmonixr_platform.requests import attribute_controls_of, constraints_of, resolve_region, sampling_of
from harmonixr_platform.schemas import Candidate, RegionSpec, Strict
from harmonixr_platform.stores.errors import ConditionFailed, NotFound
from harmonixr_platform.stores.objects import ObjectStore

_REDRAWS = 3
_GOLD_TRIES = 4


class Made(Strict):
    """What came of one gap: its pairs, or why there are none."""

    pairs: tuple[StudyPair, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GapDone:
    """One gap of the study is finished; `number` of `total`."""

    number: int
    total: int
    made: Made


_MADE = TypeAdapter(Made)


def begin_study(
    store: ObjectStore,
    study: Study,
    pieces: Sequence[Piece],
    *,
    contestants: Mapping[str, Contestant],
    now: datetime,
) -> Iterator[GapDone | Begun]:
    """Make the pairs of every gap, then the gold pairs, then open the study: the last thing yielded is what began.

    Args:
        store: where pairs and the study are kept.
        study: its definition.
        pieces: the songs that its contexts name.
        contestants: the model of each arm, by the arm's name.
        now: when the study begins.

    Raises:
        BadStudy: the name has begun with another definition, or too few pairs could be made for one rater.

    """
    studies = StudyStore(store)
    studies.check_free(study)
    if (begun := studies.get(study.name)) is not None:
        yield begun
        return
    models = {arm.name: contestants[arm.name].version for arm in study.arms}
    folder = f"feedback/making/{_digest(study, models, pieces)}/"
    total = len(pieces) * study.contexts.gaps.per_song
    pairs: list[StudyPair] = []
    for number in range(total):
        made = _held(store, f"{folder}{number}.json")
        if made is None:
            made = _make(store, study, pieces[number % len(pieces)], contestants, number)
            with contextlib.suppress(ConditionFailed):
                store.put_if_absent(f"{folder}{number}.json", made.model_dump_json().encode())
        pairs += made.pairs
        yield GapDone(number + 1, total, made)
    _check_enough(study, len(pairs))
    gold = _gold(store, study, pairs)
    yield studies.begin(Begun(study=study, models=models, pairs=tuple(pairs), gold=gold, begun=now))


def fills_of_gap(
    song: Song, spec: RegionSpec, study: Study, contestants: Mapping[str, Contestant], *, seed: int
) -> list[tuple[Arm, Candidate]]:
    """Return the fills that the arms make of a gap, all different; a fill that came out like another is drawn anew."""
    found: list[tuple[Arm, Candidate]] = []
    region, limits, soft = (
        resolve_region(spec, song),
        constraints_of(study.controls),
        attribute_controls_of(study.controls),
    )
    for arm in study.arms:
        drawn = arm.sampling.for_comparing()
        wanted, tries = study.fills.per_arm, 0
        while wanted and tries <= _REDRAWS:
            # Seeds of an arm run on over its attempts and never meet those of another arm's.
            first_seed = _seed(seed, arm.name) + tries * study.fills.per_arm
            fills = contestants[arm.name].infiller.fill(
                song, region, constraints=limits, controls=soft, n=wanted, seed=first_seed, sampling=sampling_of(drawn)
            )
            for fill in fills:
                spec_of_fill = drawn.model_copy(update={"seed": fill.seed})
                candidate = candidate_of(fill, contestants[arm.name], spec_of_fill)
                if all(candidate.midi_sha256 != other.midi_sha256 for _, other in found):
                    found.append((arm, candidate))
                    wanted -= 1
            tries += 1
    return found


def _make(store: ObjectStore, study: Study, piece: Piece, contestants: Mapping[str, Contestant], number: int) -> Made:
    rng = random.Random(f"{study.contexts.seed}:{number}:{piece.piece_id}")
    gaps = study.contexts.gaps
    try:
        song = Song.parse(piece.midi)
        spec = random_gap(song.score, rng, min_bars=gaps.min_bars, max_bars=gaps.max_bars, one_track=gaps.one_track)
        fills = fills_of_gap(song, spec, study, contestants, seed=rng.randrange(2**31))
    except HarmonixrError as error:
        return Made(reason=str(error))
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
        return Made(reason=f"all fills of bars {spec.bars} came out alike, so there is nothing to compare")
    return Made(pairs=tuple(pairs))


def _gold(store: ObjectStore, study: Study, pairs: Sequence[StudyPair]) -> tuple[GoldPair, ...]:
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
            f"only {pairs} pairs could be made, and a rater is to hear about {plain} of them; give more songs, raise "
            "contexts.gaps.per_song, or lower quotas.per_rater"
        )


def _held(store: ObjectStore, key: str) -> Made | None:
    try:
        return _MADE.validate_json(store.get(key).data)
    except NotFound:
        return None


def _digest(study: Study, models: Mapping[str, str], pieces: Sequence[Piece]) -> str:
    content = f"{study.version} {sorted(models.items())} {[piece.piece_id for piece in pieces]}"
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big")
