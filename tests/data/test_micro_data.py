"""Offsets from the grid in training data: kept by ingest, told where asked for, and gone without a trace elsewhere."""

import numpy as np
import pytest

from harmonixr_model.data.augment import augment
from harmonixr_model.data.corpus import Corpus, Piece, shard_records, write_manifest, write_shard
from harmonixr_model.data.dataset import DatasetConfig, InfillDataset
from harmonixr_model.data.ingest import read_file
from harmonixr_model.data.whole_songs import SongDataset
from harmonixr_model.errors import CorpusError
from harmonixr_model.evaluation.protocol import questions
from harmonixr_model.music.compose import compose
from harmonixr_model.music.score import Score
from harmonixr_model.music.write import write_midi
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.layout import decode_fill
from harmonixr_model.variants.single_key_corpus import SingleKeyCorpus


def played(seed: int) -> Score:
    """Return a composed song as somebody might play it."""
    rng, score = np.random.default_rng(seed), compose(seed, bars=16)

    def at(onset: int) -> int:
        return max(0, onset + round(rng.normal(0, score.ticks_per_quarter / 60)))

    return score.replace_notes(
        {i: [n._replace(onset=at(n.onset)) for n in track.notes] for i, track in enumerate(score.tracks)}
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played")
    pieces = []
    for seed in range(6):
        parsed = read_file(write_midi(played(seed)))
        pieces.append((Piece(path=f"{seed}.mid", notes=parsed.notes, notes_hash=parsed.notes_hash), parsed.score))
    write_shard(folder, "00000", pieces)
    records = [
        record | {"shard": shard, "piece_id": record["path"], "split": "train" if number else "valid"}
        for number, (shard, record) in enumerate(shard_records(folder))
    ]
    write_manifest(folder, records, made={})
    return Corpus.open(folder)


def micros(tokens) -> list[int]:
    return [int(token) for token in tokens if int(token) in VOCAB.micro]


def test_a_corpus_gives_the_offsets_back_and_leaves_them_out_where_nobody_asks(corpus):
    parsed = read_file(write_midi(played(3)))
    off, on = corpus.score(3, micro=True), corpus.score(3)
    assert [t.notes for t in off.tracks] == [t.notes for t in parsed.score.tracks]
    assert len({note.micro for track in off.tracks for note in track.notes}) > 10
    assert not any(note.micro for track in on.tracks for note in track.notes)
    for one, two in zip(off.tracks, on.tracks, strict=True):
        assert [note._replace(micro=0) for note in one.notes] == list(two.notes)


def test_an_older_corpus_reads_as_before_and_is_to_be_ingested_again_for_offsets(corpus, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    for name in ("corpus.json", "manifest.jsonl", "shards/00000.npy"):
        (tmp_path / name).write_bytes((corpus.folder / name).read_bytes())
    old = Corpus.open(tmp_path)
    assert old.score(1) == corpus.score(1)
    with pytest.raises(CorpusError, match=r"00000\.micro cannot be read .* ingest it again"):
        old.score(1, micro=True)


def test_examples_say_offsets_in_context_and_answer_only_where_asked_for(corpus):
    off, on = (InfillDataset(corpus, DatasetConfig(max_tokens=768, micro=micro)) for micro in (True, False))
    for index in range(8):
        example = off.example(index, step=0, seed=0)
        assert micros(example.tokens[: example.prefix_length])
        assert not micros(on.example(index, step=0, seed=0).tokens)
    answers = [off.example(index, step=0, seed=0) for index in range(8)]
    assert any(micros(example.tokens[example.loss_mask]) for example in answers)
    said = SongDataset(corpus, DatasetConfig(max_tokens=512, micro=True)).example(0, step=0, seed=0)
    assert micros(said.tokens)


def test_variants_of_a_song_are_played_as_it_was(corpus):
    score = corpus.score(2, micro=True)
    varied = augment(score, np.random.default_rng(4))
    assert sorted(n.micro for t in varied.tracks for n in t.notes) == sorted(
        n.micro for t in score.tracks for n in t.notes
    )
    moved = SingleKeyCorpus.open(corpus.folder).score(2, micro=True)
    assert [[n.micro for n in t.notes] for t in moved.tracks] == [[n.micro for n in t.notes] for t in score.tracks]


def test_both_sides_of_a_comparison_are_asked_the_same_notes(corpus):
    given = {"split": "valid", "count": 12, "shapes": ("track-1", "sub-bar")}
    off, on = (list(questions(corpus, micro=micro, **given)) for micro in (True, False))
    asked = {question.number: question for question in on}
    compared = 0
    for question in off:
        beside = asked[question.number]
        if question.notes != beside.notes:
            continue  # said with offsets, another gap would not have fitted
        compared += 1
        plain = tuple(tuple(note._replace(micro=0) for note in notes) for notes in question.answer)
        assert plain == beside.answer
        assert tuple(decode_fill(question.prompt, question.fill)) == question.answer
        assert question.prompt.rules.says_micro
        assert not beside.prompt.rules.says_micro
    assert compared > 6
    assert any(micros(question.fill) for question in off)
