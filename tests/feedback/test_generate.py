"""Pairs made by a model: always two different fills, of gaps that hold music, the same for the same seed."""

import base64
import random
from typing import Any

import pytest
import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.fill.infiller import Fill, Infiller
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice
from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.feedback.studies.pool_pairs import FillModel, Piece, SkippedPair, build_pool, random_gap
from harmonixr_platform.requests import resolve_region
from harmonixr_platform.schemas import Pair

SONGS = [Piece.of(compose_song(seed)) for seed in range(2)]


class OneNote:
    """SupportsFill a gap by one note whose pitch is drawn from `pitches`."""

    def __init__(self, *pitches: int) -> None:
        self._pitches = pitches

    def fill(self, song: Song, region: Any, *, n: int, seed: int, sampling: Any) -> list[Fill]:
        cell, pitch = region.cells[0], random.Random(seed).choice(self._pitches)
        made = splice(song, region, {cell.track: [Note(cell.start, 20, pitch, 64)]})
        return [Fill(made.midi, made.notes, ((pitch,),), seed, 0.0, made.dropped)]


def _pool(lab: Any, *models: FillModel, pairs: int = 6, seed: int = 0) -> list[Pair | SkippedPair]:
    made = build_pool(lab.store, SONGS, pool="default", models=models, pairs=pairs, seed=seed)
    return list(made)


def test_two_fills_of_a_pair_are_never_the_same(lab: Any) -> None:
    made = _pool(lab, FillModel(OneNote(60, 62), "v", "s"), pairs=20)
    pairs = [pair for pair in made if isinstance(pair, Pair)]
    assert len(pairs) > 10
    assert all(pair.first.midi_sha256 != pair.second.midi_sha256 for pair in pairs)
    assert set(lab.service.pools.pair_ids("default")) == {pair.pair_id for pair in pairs}


def test_a_pair_of_equal_fills_is_skipped_with_a_reason(lab: Any) -> None:
    made = _pool(lab, FillModel(OneNote(60), "v", "s"))
    assert len(made) == 6
    assert all(isinstance(pair, SkippedPair) and "nothing to compare" in pair.reason for pair in made)


def test_two_models_meet_each_other(lab: Any) -> None:
    made = _pool(lab, FillModel(OneNote(60), "x", "s"), FillModel(OneNote(62), "y", "s"), pairs=8)
    assert all({pair.first.model_version, pair.second.model_version} == {"x", "y"} for pair in made)
    assert {pair.first.model_version for pair in made} == {"x", "y"}


def test_a_file_that_is_no_song_is_skipped_and_the_rest_is_made(lab: Any) -> None:
    pieces = [Piece("broken", b"no MIDI"), SONGS[0]]
    model = FillModel(OneNote(60, 62, 64, 65, 67), "v", "s")
    made = list(build_pool(lab.store, pieces, pool="p", models=[model], pairs=4, seed=0))
    assert [isinstance(pair, SkippedPair) for pair in made] == [True, False, True, False]


def test_a_pool_without_songs_or_models_is_refused(lab: Any) -> None:
    with pytest.raises(FeedbackError, match="at least one song"):
        list(build_pool(lab.store, [], pool="p", models=[], pairs=1, seed=0))


def test_a_gap_always_holds_notes(lab: Any) -> None:
    score = Song.parse(SONGS[0].midi).score
    for seed in range(30):
        region = resolve_region(random_gap(score, random.Random(seed)), Song.parse(SONGS[0].midi))
        assert any(region.contains(i, note) for i, track in enumerate(score.tracks) for note in track.notes)


def test_a_real_model_makes_pairs_that_replay_and_can_be_judged(lab: Any) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = InfillConfig(width=32, layers=1, heads=2)
    infiller = Infiller(Decoder(InfillTransformer(config)), max_length=config.max_length)
    (pair,) = _pool(lab, FillModel(infiller, "tiny", "s"), pairs=1)
    assert isinstance(pair, Pair)
    song = Song.parse(base64.b64decode(pair.context_base64))
    for candidate in (pair.first, pair.second):
        replayed = infiller.replay(song, resolve_region(pair.region, song), candidate.tokens)
        assert base64.b64encode(replayed.midi).decode() == candidate.midi_base64
    assert lab.service.record_judgment(lab.judgment(lab.compare())).stored
