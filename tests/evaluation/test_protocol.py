"""Evaluation items: the same for every system, each of its shape, with the hidden notes as the original."""

import pytest

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.errors import CorpusError
from harmonixr_model.evaluation.gap_shapes import SHAPES, Gap
from harmonixr_model.evaluation.protocol import (
    CONTEXT_TOKENS,
    MIN_NOTES,
    PREFIX_SHARE,
    ProtocolError,
    evaluation_items,
    make_item,
    with_separate_channels,
)
from harmonixr_model.grammar.fill_grammar import check_fill
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.builder import build_layout
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_model.training.composed_corpus import write_composed_corpus

END = VOCAB.id("END")
DOUBLED = tuple(Note(onset, 24, 60 + onset // 24, 80) for onset in range(0, 288, 24))
UNISON = Score(24, (Track(DOUBLED), Track(DOUBLED)))


def items_of(corpus, count, **how):
    return list(evaluation_items(corpus, split="valid", count=count, **how))


def same(one, two):
    return (one.shape, one.piece_id, one.prompt.cells, one.original) == (
        two.shape,
        two.piece_id,
        two.prompt.cells,
        two.original,
    )


def test_items_depend_on_the_seed_and_not_on_their_count(corpus):
    first, longer = items_of(corpus, 11, seed=3), items_of(Corpus.open(corpus.folder), 15, seed=3)
    assert all(same(one, two) for one, two in zip(first, longer, strict=False))
    assert not all(same(one, two) for one, two in zip(first, items_of(corpus, 11, seed=4), strict=True))


def test_every_shape_comes_in_turn_over_the_pieces_of_the_split(corpus):
    items = items_of(corpus, 2 * len(SHAPES))
    assert [item.shape for item in items] == list(SHAPES) * 2
    assert {item.piece_id for item in items} == {corpus.piece(i).piece_id for i in corpus.split("valid")}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_gap_has_its_shape(corpus, shape):
    for item in items_of(corpus, 3, seed=1, shapes=[shape]):
        assert item.notes >= MIN_NOTES
        cells = item.prompt.cells
        stretches, tracks = {(cell.start, cell.end) for cell in cells}, {cell.track for cell in cells}
        whole = {(bar.start, bar.end) for bar in item.bars}
        if shape.startswith(("track", "all")):
            assert len(stretches) == int(shape[-1])
            assert len(tracks) == (1 if shape.startswith("track") else len(item.context.tracks))
        if shape == "sub-bar":
            assert not stretches & whole
        else:
            assert stretches <= whole
        if shape == "band":
            assert all((cell.low, cell.high) != (0, 127) for cell in cells)
        if shape == "half-locked":
            assert any(item.context.hidden(cell) for cell in cells)
        if shape == "continuation":
            assert item.bars[-1].end == max(cell.end for cell in cells)
            assert item.context.end <= min(cell.start for cell in cells) + 1536  # earlier notes may sound on


def test_the_context_has_everything_except_the_original(corpus):
    whole = {corpus.piece(i).piece_id: corpus.score(i) for i in corpus.split("valid")}
    for item in items_of(corpus, len(SHAPES), seed=2):
        cells = item.prompt.cells
        hidden = {(c.track, n) for c, notes in zip(cells, item.original, strict=True) for n in notes}
        shown = {(i, note) for i, track in enumerate(item.context.tracks) for note in track.notes}
        score = whole[item.piece_id]
        everything = {(i, note) for i, track in enumerate(score.tracks) for note in track.notes}
        if item.shape == "continuation":
            everything = {(i, note) for i, note in everything if note.onset < item.bars[-1].end}
        if item.shape == "whole-track":
            everything = {(i, n) for i, n in everything if i != cells[0].track or any(c.contains(n) for c in cells)}
        assert not hidden & shown
        assert hidden | shown == everything


def test_a_whole_track_is_hidden_everywhere(corpus):
    for item in items_of(corpus, 3, shapes=["whole-track"]):
        assert len({cell.track for cell in item.prompt.cells}) == 1
        assert not item.context.tracks[item.prompt.cells[0].track].notes
        assert any(track.notes for track in item.context.tracks)


def test_tracks_of_one_channel_get_separate_channels():
    both = (Note(0, 48, 60, 80),)
    score = Score(24, tuple(Track(both, channel=0, is_drum=drums) for drums in (False, True, False)))
    assert [track.channel for track in with_separate_channels(score).tracks] == [0, 9, 1]
    item = make_item(
        EncodedScore(with_separate_channels(UNISON)), Gap((GridCell(1, 96, 192),)), shape="x", piece_id="p", number=0
    )
    check_fill(item.prompt.tables, item.fill)  # the other track has the same notes


def test_only_pieces_with_enough_tracks_are_used(corpus):
    most = max(len(corpus.score(i).tracks) for i in corpus.split("valid"))
    assert all(len(item.context.tracks) == most for item in items_of(corpus, 3, shapes=["track-1"], least_tracks=most))
    with pytest.raises(CorpusError, match="has no valid pieces with 99 tracks or more"):
        items_of(corpus, 1, least_tracks=99)


def test_the_prompt_is_that_of_a_user_and_does_not_depend_on_the_original(corpus):
    for item in items_of(corpus, len(SHAPES), seed=6):
        room = round(CONTEXT_TOKENS * PREFIX_SHARE)
        layout = build_layout(item.context, item.prompt.cells, max_prefix_tokens=room)
        assert item.prompt.prefix.tolist() == layout.prefix.tolist()


def test_the_original_fits_the_budget_satisfies_the_grammar_and_decodes_to_itself(corpus):
    for item in items_of(corpus, len(SHAPES), seed=5):
        assert len(item.prompt.prefix) + len(item.fill) <= CONTEXT_TOKENS
        check_fill(item.prompt.tables, item.fill)
        assert tuple(decode_fill(item.prompt, item.fill)) == item.original


def test_predicted_runs_are_the_predicted_tokens_of_each_cell(corpus):
    for item in items_of(corpus, 4, shapes=["all-2", "half-locked"]):
        runs = item.predicted_runs()
        assert [track for track, _ in runs] == [cell.track for cell in item.prompt.cells]
        assert all(run[-1] == END and END not in run[:-1] for _, run in runs)
        assert sum(len(run) for _, run in runs) == item.example().loss_mask.sum()


def test_a_shape_that_fits_no_piece_is_left_out(tmp_path):
    short = Corpus.open(write_composed_corpus(tmp_path / "c", pieces=4, bars=8))
    assert [item.shape for item in items_of(short, 4, shapes=["track-8", "track-1"])] == ["track-1", "track-1"]
    with pytest.raises(CorpusError, match=r"no gap of track-8 fits 1024 tokens"):
        items_of(short, 1, shapes=["track-8"])


def test_impossible_items_raise_clear_errors(corpus):
    with pytest.raises(ProtocolError, match="there is no shape whole-song; choose from track-1"):
        items_of(corpus, 1, shapes=["whole-song"])
    with pytest.raises(CorpusError, match="has no test pieces"):
        next(evaluation_items(corpus, split="test", count=1))
