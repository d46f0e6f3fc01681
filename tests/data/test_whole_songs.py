"""Training data for comparisons: whole songs, a warm-up, one key, and no transposition."""

import dataclasses

import numpy as np
import pytest

from harmonixr_model.data.augment import augment
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import DatasetConfig, InfillDataset
from harmonixr_model.data.whole_songs import SongDataset, WarmUp, song_tokens
from harmonixr_model.music.compose import compose
from harmonixr_model.music.estimate import estimate_key
from harmonixr_model.music.harmony import Key
from harmonixr_model.music.transforms import transpose
from harmonixr_model.notes.encoded_score import EncodedScore
from harmonixr_model.notes.grid import quantize
from harmonixr_model.notes.tokenizer import decode
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import coordinates_of_tokens
from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_model.variants.single_key_corpus import SingleKeyCorpus, in_single_key

EOS = VOCAB.id("EOS")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus.open(write_composed_corpus(tmp_path_factory.mktemp("corpus"), pieces=10, bars=16))


def pitched(score):
    return [note for track in score.tracks if not track.is_drum for note in track.notes]


def test_a_song_example_has_loss_on_every_token_but_the_first(corpus):
    songs = SongDataset(corpus, DatasetConfig(max_tokens=256))
    for index in range(20):
        example = songs.example(index, step=0, seed=0)
        assert len(example.tokens) <= 256
        assert example.prefix_length == 1
        assert example.loss_mask.tolist() == [False] + [True] * (len(example.tokens) - 1)
        np.testing.assert_array_equal(example.coordinates, coordinates_of_tokens(example.tokens, gap_bar=0))
        again = songs.example(index, step=0, seed=0)
        np.testing.assert_array_equal(example.tokens, again.tokens)


def test_the_tokens_of_a_song_are_the_song():
    score = quantize(compose(3, bars=8))
    encoded = EncodedScore(score)
    decoded = decode([*song_tokens(encoded, score.bars), EOS])
    assert [t.notes for t in decoded.tracks] == [t.notes for t in score.tracks]


def test_a_warm_up_ends_at_its_step(corpus):
    fills, songs = (build(corpus, DatasetConfig(max_tokens=256)) for build in (InfillDataset, SongDataset))
    source = WarmUp(songs, fills, until=3)
    assert source.example(0, step=2, seed=0).prefix_length == 1
    assert source.example(0, step=3, seed=0).prefix_length > 1


@pytest.mark.parametrize("seed", range(4))
def test_in_one_key_a_piece_is_the_same_piece_in_c_or_a(seed):
    score = quantize(compose(seed, bars=8))
    moved = in_single_key(score)
    assert estimate_key(pitched(moved)) in {Key(0, "major"), Key(9, "minor")}
    shifts = {two.pitch - one.pitch for one, two in zip(pitched(score), pitched(moved), strict=True)}
    assert len(shifts) == 1
    elsewhere = in_single_key(transpose(score, 3))
    apart = {one.pitch - two.pitch for one, two in zip(pitched(elsewhere), pitched(moved), strict=True)}
    assert apart in ({0}, {12}, {-12})
    drums = [track.notes for track in score.tracks if track.is_drum]
    assert drums == [track.notes for track in moved.tracks if track.is_drum]


def test_a_corpus_in_one_key_has_the_same_pieces(corpus):
    heard = SingleKeyCorpus.open(corpus.folder)
    assert heard.split("train") == corpus.split("train")
    assert heard.score(0) == in_single_key(corpus.score(0))


def test_without_transposing_only_the_key_differs(corpus):
    score = corpus.score(0)
    for seed in range(6):
        kept = augment(score, np.random.default_rng(seed), transposes=False)
        moved = augment(score, np.random.default_rng(seed))
        assert kept.tempos == moved.tempos
        one, two = pitched(kept), pitched(moved)
        assert [n._replace(pitch=0) for n in one] == [n._replace(pitch=0) for n in two]
        assert {n.pitch for n in one} <= {n.pitch for n in pitched(score)}


def test_a_dataset_may_keep_its_keys(corpus):
    config = DatasetConfig(max_tokens=256, passage_dropout=0)
    transposed, kept = (InfillDataset(corpus, dataclasses.replace(config, transposes=t)) for t in (True, False))
    one, two = (d.example(5, step=1, seed=0).tokens for d in (transposed, kept))
    pitch = np.isin(one, list(VOCAB.pitch))
    assert len(one) == len(two)
    assert (one[~pitch] == two[~pitch]).all()
    assert (one[pitch] != two[pitch]).any()
