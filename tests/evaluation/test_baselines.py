"""Baselines: probabilities sum to one, training lowers the bits, copies come from the visible music."""

import math

import pytest

from harmonixr_model.evaluation.baselines import END, Markov, MarkovBaseline, copy_bar, copy_passage
from harmonixr_model.evaluation.gap_shapes import SHAPES, Gap
from harmonixr_model.evaluation.likelihood import BITS
from harmonixr_model.evaluation.protocol import MIN_NOTES, evaluation_items, make_item
from harmonixr_model.music.region import NoteKey
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.vocabulary import VOCAB


@pytest.fixture(scope="module")
def markov(corpus):
    return MarkovBaseline.fit(corpus)


@pytest.fixture(scope="module")
def items(corpus):
    return list(evaluation_items(corpus, split="valid", count=len(SHAPES), seed=9))


def test_witten_bell_by_hand():
    """After A B, C occurs twice and D once; lower orders have A and B too."""
    a, b, c, d = VOCAB.pitch[1], VOCAB.pitch[2], VOCAB.pitch[3], VOCAB.pitch[4]
    chain = Markov(2)
    for last in (c, c, d):
        chain.add([a, b, last])
    order_0 = (2 + 4 / VOCAB.size) / (9 + 4)
    order_1 = (2 + 2 * order_0) / (3 + 2)
    assert chain.probability((a, b), c) == pytest.approx((2 + 2 * order_1) / (3 + 2))


def test_after_any_history_the_probabilities_of_all_tokens_sum_to_one(markov):
    song = Markov(6, base=markov.chains[None, False])
    song.add([VOCAB.position[0], VOCAB.pitch[60], VOCAB.duration[5], VOCAB.velocity[20], END])
    for chain in (markov.chains[None, False], markov.chains[None, True], song, Markov(2)):
        for history in ((), (VOCAB.position[0],), (VOCAB.position[0], VOCAB.pitch[60]), (END, END)):
            total = sum(chain.probability(history, token) for token in range(VOCAB.size))
            assert total == pytest.approx(1)


def test_an_untrained_chain_gives_uniform_bits_to_every_predicted_token(items):
    untrained = MarkovBaseline()
    for item in items:
        counted = item.example().loss_mask.sum()
        assert untrained.bits(item)[BITS] == pytest.approx(counted * math.log2(VOCAB.size))


def test_training_lowers_the_bits_of_held_out_originals(markov, items):
    untrained, trained = MarkovBaseline(), markov
    assert sum(trained.bits(item)[BITS] for item in items) < 0.6 * sum(untrained.bits(item)[BITS] for item in items)


def song_of_equal_bars(bars=6):
    rows = (Note(96 * bar + 24 * beat, 12, 60 + beat, 82) for bar in range(bars) for beat in range(4))
    return EncodedScore(Score(24, (Track(tuple(rows)),)))


def item_of(full, *cells, locks=()):
    found = make_item(full, Gap(cells, frozenset(locks)), shape="track-1", piece_id="p", number=0)
    assert found is not None
    return found


def test_priming_on_the_song_lowers_the_bits_of_its_repetitions(markov):
    item = item_of(song_of_equal_bars(), GridCell(0, 192, 288))
    assert markov.bits_of_primed_ppm(item)[BITS] < 0.5 * markov.bits(item)[BITS]


def test_a_song_of_equal_bars_is_copied_perfectly_from_either_side():
    for cells in ((GridCell(0, 192, 288), GridCell(0, 288, 384)), (GridCell(0, 192, 288, 60, 62),)):
        item = item_of(song_of_equal_bars(), *cells)
        assert copy_bar(item, "previous") == copy_bar(item, "next") == list(item.original)


def test_a_passage_of_the_song_is_copied_from_where_the_accompaniment_is_the_same():
    melody = [Note(96 * bar, 48, 60 + bar % 4 + 5 * (bar // 4 % 2), 82) for bar in range(12)]
    bass = [Note(96 * bar, 96, 36 + bar % 4 + 7 * (bar // 4 % 2), 82) for bar in range(12)]
    full = EncodedScore(Score(24, (Track(tuple(melody)), Track(tuple(bass), program=33))))
    item = item_of(full, *(GridCell(0, 96 * bar, 96 * bar + 96) for bar in (1, 2, 3)))
    assert item.is_repeated
    assert copy_passage(item) == list(item.original)
    assert copy_bar(item, "previous") != list(item.original)
    assert not item_of(full, *(GridCell(0, 96 * bar, 96 * bar + 96) for bar in (3, 4, 5))).is_repeated


def test_without_another_passage_nothing_is_copied():
    item = item_of(song_of_equal_bars(3), *(GridCell(0, 96 * bar, 96 * bar + 96) for bar in (0, 1)))
    assert copy_passage(item) == [(), ()]


def test_copies_never_double_a_locked_note():
    item = item_of(song_of_equal_bars(3), GridCell(0, 96, 192), locks=[NoteKey(0, 96, 60)])
    assert item.notes == MIN_NOTES
    assert copy_bar(item, "previous") == list(item.original)


def test_nothing_is_copied_from_after_a_continuation(corpus):
    for item in evaluation_items(corpus, split="valid", count=3, shapes=["continuation"]):
        assert not any(copy_bar(item, "next"))
        assert any(copy_bar(item, "previous"))


@pytest.mark.parametrize("direction", ["previous", "next"])
def test_copies_are_inside_their_cells_and_come_from_visible_notes_of_their_track(items, direction):
    for item in items:
        shown = {(i, *note[1:]) for i, track in enumerate(item.context.tracks) for note in track.notes}
        for cell, fill in zip(item.prompt.cells, copy_bar(item, direction), strict=True):
            assert all(cell.contains(note) for note in fill)
            assert {(cell.track, *note[1:]) for note in fill} <= shown
