"""The pairs of a study, made in advance: all different, with separate gold pairs, and the same for a seed."""

import base64
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from harmonixr_model.fill.infiller import Fill
from harmonixr_model.music import synth
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice
from harmonixr_platform.feedback.errors import BadStudy, FeedbackError
from harmonixr_platform.feedback.studies.definition import Study, parse_study
from harmonixr_platform.feedback.studies.gold import broken_pair, identical_pair
from harmonixr_platform.feedback.studies.pair_view import notes_in_gap
from harmonixr_platform.feedback.studies.pool_pairs import FillModel, Piece
from harmonixr_platform.feedback.studies.store import BegunStudy
from harmonixr_platform.feedback.studies.study_pairs import begin_study
from harmonixr_platform.requests import resolve_region
from harmonixr_platform.schemas import Pair
from harmonixr_platform.stores.files import FileStore

SONGS = [Piece.of(compose_song(seed)) for seed in range(2)]


class Scales:
    """SupportsFill a gap with eight notes drawn from a scale; `kinds` limits how many different fills there are."""

    def __init__(self, *, kinds: int = 10_000) -> None:
        self.calls = 0
        self._kinds = kinds

    def fill(
        self,
        song: Song,
        region: Any,
        *,
        constraints: Any = None,
        controls: Any = None,
        n: int,
        seed: int,
        sampling: Any,
    ) -> list[Fill]:
        self.calls += 1
        return [self._one(song, region, seed + i) for i in range(n)]

    def _one(self, song: Song, region: Any, seed: int) -> Fill:
        rng, cell = random.Random(seed % self._kinds), region.cells[0]
        step = (cell.end - cell.start) // 8
        notes = [Note(cell.start + i * step, step // 2, rng.choice((60, 62, 64, 65, 67, 69)), 80) for i in range(8)]
        made = splice(song, region, {cell.track: notes})
        return Fill(made.midi, made.notes, ((seed,),), seed, 0.0, made.dropped)


def study(**changes: Any) -> Study:
    values = {
        "name": "s",
        "arms": [{"name": "x"}, {"name": "y"}],
        "contexts": {"gaps": {"per_song": 3, "max_bars": 2}},
        "quotas": {"per_rater": 6},
        "gold": {"pairs": 4, "identical": 0.25},
    }
    return parse_study(values | changes, source="test")


def begin(lab: Any, defined: Study, *, fills: Any = None, store: Any = None) -> BegunStudy:
    fills = fills or Scales()
    models = {arm.name: FillModel(fills, f"model-{arm.name}", "0" * 64) for arm in defined.arms}
    *_, begun = begin_study(store or lab.store, defined, SONGS, models=models, now=lab.clock())
    assert isinstance(begun, BegunStudy)
    return begun


def stored(lab: Any, pair_id: str) -> Pair:
    return lab.service.pairs.get(pair_id)


def test_every_gap_is_filled_by_each_arm_and_no_pair_has_two_equal_fills(lab: Any) -> None:
    begun = begin(lab, study())
    assert len(begun.pairs) == 6
    assert begun.models == {"x": "model-x", "y": "model-y"}
    for entry in begun.pairs:
        pair = stored(lab, entry.pair_id)
        assert pair.first.midi_sha256 != pair.second.midi_sha256
        assert (pair.first.model_version, pair.second.model_version) == (
            f"model-{entry.first}",
            f"model-{entry.second}",
        )
    assert {entry.first for entry in begun.pairs} == {"x", "y"}


def test_all_fills_of_a_gap_meet_where_the_study_wants_it(lab: Any) -> None:
    begun = begin(lab, study(arms=[{"name": "x"}], fills={"per_arm": 4, "within_arm": True}))
    assert len(begun.pairs) == 6 * 6
    hashes = Counter(stored(lab, entry.pair_id).first.midi_sha256 for entry in begun.pairs)
    assert len(hashes) > 6


def test_equal_fills_are_sampled_again_or_left_out_with_a_reason(lab: Any) -> None:
    with pytest.raises(BadStudy, match="only 0 pairs could be made"):
        begin(lab, study(), fills=Scales(kinds=1))
    some = begin(lab, study(name="some", quotas={"per_rater": 2}), fills=Scales(kinds=3))
    assert 0 < len(some.pairs) <= 6


def test_the_same_definition_makes_the_same_pairs(lab: Any, tmp_path: Any) -> None:
    other = FileStore(tmp_path / "other")
    first, second = begin(lab, study()), begin(lab, study(), store=other)
    assert (first.pairs, first.gold) == (second.pairs, second.gold)


def test_an_interrupted_study_continues_and_makes_no_pair_twice(lab: Any) -> None:
    fills, defined = Scales(), study()
    models = {arm.name: FillModel(fills, f"model-{arm.name}", "0" * 64) for arm in defined.arms}
    steps = begin_study(lab.store, defined, SONGS, models=models, now=lab.clock())
    for _ in range(4):
        next(steps)
    steps.close()
    calls = fills.calls
    begun = begin(lab, defined, fills=fills)
    assert fills.calls - calls == calls / 2
    assert begun.pairs == begin(lab, defined, store=FileStore(lab.store.root / "anew")).pairs


def test_a_study_that_has_begun_cannot_change(lab: Any) -> None:
    first = begin(lab, study())
    assert begin(lab, study()) == first
    with pytest.raises(BadStudy, match="give the new one another name"):
        begin(lab, study(quotas={"per_rater": 7}))


def test_gold_pairs_have_the_expected_outcome(lab: Any) -> None:
    begun = begin(lab, study())
    assert Counter(gold.expected == "tie" for gold in begun.gold) == {False: 3, True: 1}
    plain = {stored(lab, entry.pair_id).first.midi_sha256 for entry in begun.pairs}
    plain |= {stored(lab, entry.pair_id).second.midi_sha256 for entry in begun.pairs}
    for gold in begun.gold:
        pair = stored(lab, gold.pair_id)
        if gold.expected == "tie":
            assert pair.first == pair.second
            continue
        good, bad = (pair.first, pair.second) if gold.expected == "first" else (pair.second, pair.first)
        assert good.midi_sha256 in plain
        assert bad.model_version == "broken"
        assert bad.midi_sha256 not in plain


@pytest.mark.parametrize("seed", range(6))
def test_a_broken_fill_differs_audibly_and_keeps_the_context(lab: Any, seed: int) -> None:
    begun = begin(lab, study())
    source = stored(lab, begun.pairs[seed].pair_id)
    pair, expected = broken_pair(source, random.Random(seed))
    good, bad = (pair.first, pair.second) if expected == "first" else (pair.second, pair.first)
    song = Song.parse(base64.b64decode(pair.context_base64))
    region = resolve_region(pair.region, song)
    clean, broken = (notes_in_gap(base64.b64decode(side.midi_base64), region) for side in (good, bad))
    assert len(broken) >= len(clean) - 2
    same = {(n.track, n.onset_tick, n.pitch) for n in clean} & {(n.track, n.onset_tick, n.pitch) for n in broken}
    assert len(same) <= len(clean) // 4
    for side in (good, bad):
        outside = splice(Song.parse(base64.b64decode(side.midi_base64)), region, {}).midi
        assert outside == splice(song, region, {}).midi
    start, end = song.score.seconds(region.start), song.score.seconds(region.end)
    sounds = [
        synth.render(Song.parse(base64.b64decode(side.midi_base64)).score, start_s=start, end_s=end)
        for side in (good, bad)
    ]
    difference = np.sqrt(np.mean((sounds[0] - sounds[1]) ** 2)) / np.sqrt(np.mean(sounds[0] ** 2))
    assert difference > 0.3


def test_a_fill_of_too_few_notes_cannot_be_broken(lab: Any) -> None:
    pair = lab.pair(3)
    empty = base64.b64encode(lab.service._pair_view(lab.service.pairs.put(pair).pair_id).context).decode()
    silent = pair.first.model_copy(update={"midi_base64": empty})
    with pytest.raises(FeedbackError, match="fewer than 3 notes"):
        broken_pair(pair.model_copy(update={"first": silent, "second": silent}), random.Random(0))


def test_an_identical_pair_plays_the_same_twice(lab: Any) -> None:
    pair = identical_pair(lab.pair(1), random.Random(0))
    assert pair.first == pair.second
    assert pair.pair_id != lab.pair(1).pair_id
