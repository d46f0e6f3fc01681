"""Which gaps are asked: the same for everybody, of the shape they say, and answered by what they hide."""

import pytest

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.errors import CorpusError
from harmonixr_model.evaluation.protocol import (
    CONTEXT_TOKENS,
    LEAST_NOTES,
    PREFIX_SHARE,
    SHAPES,
    Gap,
    ProtocolError,
    apart,
    questions,
)
from harmonixr_model.evaluation.protocol import ask as ask_gap
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


def ask(corpus, count, **how):
    return list(questions(corpus, split="valid", count=count, **how))


def same(one, two):
    return (one.shape, one.piece_id, one.prompt.cells, one.answer) == (
        two.shape,
        two.piece_id,
        two.prompt.cells,
        two.answer,
    )


def test_a_protocol_is_a_function_of_its_seed_and_more_items_keep_the_first(corpus):
    first, longer = ask(corpus, 11, seed=3), ask(Corpus.open(corpus.folder), 15, seed=3)
    assert all(same(one, two) for one, two in zip(first, longer, strict=False))
    assert not all(same(one, two) for one, two in zip(first, ask(corpus, 11, seed=4), strict=True))


def test_every_shape_comes_in_turn_over_the_pieces_of_the_split(corpus):
    asked = ask(corpus, 2 * len(SHAPES))
    assert [question.shape for question in asked] == list(SHAPES) * 2
    assert {question.piece_id for question in asked} == {corpus.piece(i).piece_id for i in corpus.split("valid")}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_gap_is_of_its_shape(corpus, shape):
    for question in ask(corpus, 3, seed=1, shapes=[shape]):
        assert question.notes >= LEAST_NOTES
        cells = question.prompt.cells
        stretches, tracks = {(cell.start, cell.end) for cell in cells}, {cell.track for cell in cells}
        whole = {(bar.start, bar.end) for bar in question.bars}
        if shape.startswith(("track", "all")):
            assert len(stretches) == int(shape[-1])
            assert len(tracks) == (1 if shape.startswith("track") else len(question.context.tracks))
        if shape == "sub-bar":
            assert not stretches & whole
        else:
            assert stretches <= whole
        if shape == "band":
            assert all((cell.low, cell.high) != (0, 127) for cell in cells)
        if shape == "half-locked":
            assert any(question.context.hidden(cell) for cell in cells)
        if shape == "continuation":
            assert question.bars[-1].end == max(cell.end for cell in cells)
            assert question.context.end <= min(cell.start for cell in cells) + 1536  # what began before may sound on


def test_the_context_shows_everything_but_the_answer(corpus):
    whole = {corpus.piece(i).piece_id: corpus.score(i) for i in corpus.split("valid")}
    for question in ask(corpus, len(SHAPES), seed=2):
        cells = question.prompt.cells
        hidden = {(c.track, n) for c, notes in zip(cells, question.answer, strict=True) for n in notes}
        shown = {(i, note) for i, track in enumerate(question.context.tracks) for note in track.notes}
        score = whole[question.piece_id]
        everything = {(i, note) for i, track in enumerate(score.tracks) for note in track.notes}
        if question.shape == "continuation":
            everything = {(i, note) for i, note in everything if note.onset < question.bars[-1].end}
        if question.shape == "whole-track":
            everything = {(i, n) for i, n in everything if i != cells[0].track or any(c.contains(n) for c in cells)}
        assert not hidden & shown
        assert hidden | shown == everything


def test_a_whole_track_is_shown_nowhere(corpus):
    for question in ask(corpus, 3, shapes=["whole-track"]):
        assert len({cell.track for cell in question.prompt.cells}) == 1
        assert not question.context.tracks[question.prompt.cells[0].track].notes
        assert any(track.notes for track in question.context.tracks)


def test_tracks_of_one_channel_are_told_apart():
    both = (Note(0, 48, 60, 80),)
    score = Score(24, tuple(Track(both, channel=0, is_drum=drums) for drums in (False, True, False)))
    assert [track.channel for track in apart(score).tracks] == [0, 9, 1]
    question = ask_gap(EncodedScore(apart(UNISON)), Gap((GridCell(1, 96, 192),)), shape="x", piece_id="p", number=0)
    check_fill(question.prompt.tables, question.fill)  # the other track plays the very same notes


def test_only_pieces_with_enough_tracks_are_asked(corpus):
    most = max(len(corpus.score(i).tracks) for i in corpus.split("valid"))
    assert all(len(q.context.tracks) == most for q in ask(corpus, 3, shapes=["track-1"], least_tracks=most))
    with pytest.raises(CorpusError, match="has no valid pieces with 99 tracks or more"):
        ask(corpus, 1, least_tracks=99)


def test_the_prompt_is_that_of_a_user_and_does_not_depend_on_the_answer(corpus):
    for question in ask(corpus, len(SHAPES), seed=6):
        room = round(CONTEXT_TOKENS * PREFIX_SHARE)
        layout = build_layout(question.context, question.prompt.cells, max_prefix_tokens=room)
        assert question.prompt.prefix.tolist() == layout.prefix.tolist()


def test_the_answer_fits_the_budget_keeps_the_grammar_and_decodes_to_itself(corpus):
    for question in ask(corpus, len(SHAPES), seed=5):
        assert len(question.prompt.prefix) + len(question.fill) <= CONTEXT_TOKENS
        check_fill(question.prompt.tables, question.fill)
        assert tuple(decode_fill(question.prompt, question.fill)) == question.answer


def test_asked_runs_are_the_tokens_to_predict_cell_by_cell(corpus):
    for question in ask(corpus, 4, shapes=["all-2", "half-locked"]):
        runs = question.asked_runs()
        assert [track for track, _ in runs] == [cell.track for cell in question.prompt.cells]
        assert all(run[-1] == END and END not in run[:-1] for _, run in runs)
        assert sum(len(run) for _, run in runs) == question.example().loss_mask.sum()


def test_a_shape_that_fits_no_piece_is_left_out(tmp_path):
    short = Corpus.open(write_composed_corpus(tmp_path / "c", pieces=4, bars=8))
    assert [question.shape for question in ask(short, 4, shapes=["track-8", "track-1"])] == ["track-1", "track-1"]
    with pytest.raises(CorpusError, match=r"no gap of track-8 fits 1024 tokens"):
        ask(short, 1, shapes=["track-8"])


def test_what_cannot_be_asked_is_said(corpus):
    with pytest.raises(ProtocolError, match="there is no shape whole-song; choose from track-1"):
        ask(corpus, 1, shapes=["whole-song"])
    with pytest.raises(CorpusError, match="has no test pieces"):
        next(questions(corpus, split="test", count=1))
