"""A corpus on disk reports damage; datasets can be pickled; locks stay; every shape hides something."""

import json
import multiprocessing
import pickle

import numpy as np
import pytest

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import DatasetConfig, InfillDataset, build_example
from harmonixr_model.data.masking import SHAPES, Mask, Scene
from harmonixr_model.errors import CorpusError
from harmonixr_model.music.compose import compose
from harmonixr_model.music.region import NoteKey
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.grid import quantize
from harmonixr_model.prompt.builder import build_layout, build_prompt
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_model.training.composed_corpus import write_composed_corpus


@pytest.fixture
def folder(tmp_path):
    return write_composed_corpus(tmp_path / "corpus", pieces=6, bars=8)


def test_a_corpus_of_an_older_version_with_offsets_from_the_grid_is_read(folder):
    before = Corpus.open(folder).score(0)
    notes = np.load(folder / "shards" / "00000.npy")
    np.save(folder / "shards" / "00000.micro.npy", np.ones(len(notes), dtype=np.int8))
    assert Corpus.open(folder).score(0) == before


def test_errors_name_what_is_missing_or_damaged_and_the_remedy(folder):
    shard = folder / "shards" / "00000.npy"
    whole = shard.read_bytes()
    shard.write_bytes(b"not an array")
    with pytest.raises(CorpusError, match=r"shard 00000 cannot be read .* ingest it again"):
        Corpus.open(folder).score(0)
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match="shard 00000 cannot be read"):
        Corpus.open(folder).score(0)
    (folder / "manifest.jsonl").write_text('{"path": ')
    with pytest.raises(CorpusError, match="is damaged"):
        Corpus.open(folder)
    (folder / "manifest.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"manifest\.jsonl is missing"):
        Corpus.open(folder)


def test_another_format_and_an_unknown_split_are_refused(folder):
    corpus = Corpus.open(folder)
    with pytest.raises(CorpusError, match="choose one of train, valid, test"):
        corpus.split("dev")
    made = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps(made | {"format": 99}))
    with pytest.raises(CorpusError, match="has format 99, this version reads 1"):
        Corpus.open(folder)


def test_a_pickled_dataset_samples_the_same_examples(folder):
    dataset = InfillDataset(Corpus.open(folder), DatasetConfig(max_tokens=512))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply_async(dataset.example, (3,), {"step": 5, "seed": 7}).get(timeout=120)
    here = dataset.example(3, step=5, seed=7)
    again = pickle.loads(pickle.dumps(dataset)).example(3, step=5, seed=7)
    assert here.tokens.tolist() == there.tokens.tolist() == again.tokens.tolist()
    assert here.loss_mask.tolist() == there.loss_mask.tolist() == again.loss_mask.tolist()


def scene(seed=0):
    encoded = EncodedScore(quantize(compose(seed, bars=16)))
    return Scene(encoded, encoded.score.bars)


def test_locked_notes_stay_in_the_context_and_out_of_the_target():
    full, bar = scene(1).encoded, scene(1).bars[2]
    cell = GridCell(0, bar.start, bar.end)
    hidden = full.hidden(cell)
    locks = frozenset(NoteKey(0, note.onset, note.pitch) for note in hidden[::2])
    example = build_example(full, Mask((cell,), locks, None), max_tokens=4096)
    context = full.without((cell,), locks)
    prompt = build_prompt(context, (cell,), max_prefix_tokens=4096)
    assert context.hidden(cell) == hidden[::2]
    assert decode_fill(prompt, example.tokens[example.prefix_length :]) == [hidden[1::2]]
    assert (
        example.tokens[: example.prefix_length].tolist()
        == build_layout(context, (cell,), max_prefix_tokens=4096).prefix.tolist()
    )


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__.strip("_"))
def test_every_shape_hides_something_within_the_window(shape):
    one = scene(2)
    drawn = [shape(one, np.random.default_rng(seed)) for seed in range(30)]
    assert sum(bool(sum(len(one.encoded.hidden(c)) for c in cells)) for cells in drawn) > 15
    for cells in drawn:
        for cell in cells:
            assert 0 <= cell.track < one.tracks
            assert any(bar.start <= cell.start < cell.end <= bar.end for bar in one.bars)
