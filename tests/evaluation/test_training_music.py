"""Copies from training music are found in any key, and the retrieval baseline copies everything from there."""

from itertools import pairwise

import numpy as np
import pytest

from harmonixr_model.evaluation.gap_shapes import Gap
from harmonixr_model.evaluation.metrics import compare
from harmonixr_model.evaluation.protocol import evaluation_items, make_item
from harmonixr_model.evaluation.report import evaluate
from harmonixr_model.evaluation.retrieval import retrieve
from harmonixr_model.evaluation.systems import System, retrieval_system
from harmonixr_model.evaluation.training_overlap import COPIED, LENGTHS, LONGEST, CopyFinder, ngrams
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell


def melody(seed, *, count=64, shift=0):
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.choice((12, 24, 36), size=count))
    return tuple(Note(int(t), 12, int(p) + shift, 82) for t, p in zip(steps, rng.integers(48, 72, count), strict=True))


def piece(seed, **how):
    return Score(24, (Track(melody(seed, **how)),))


def hidden(score, first=4, bars=4):
    cells = tuple(GridCell(0, 96 * bar, 96 * bar + 96) for bar in range(first, first + bars))
    item = make_item(EncodedScore(score), Gap(cells), shape="x", piece_id="p", number=0)
    assert item is not None
    return item


@pytest.mark.parametrize("length", LENGTHS[:5])
def test_a_hash_depends_only_on_the_steps_between_notes(length):
    notes = melody(0)[:40] + melody(1)[:3]
    notes = tuple(sorted((*notes, *(note._replace(onset=note.onset + 2400) for note in notes))))
    grams = ngrams(notes, [length])[length]
    assert len(grams) == len(notes) - length + 1
    steps = [(b.pitch - a.pitch, min(round((b.onset - a.onset) / 6), 16)) for a, b in pairwise(notes)]
    windows = [tuple(steps[at : at + length - 1]) for at in range(len(grams))]
    same = {(i, j) for i in range(len(windows)) for j in range(i) if windows[i] == windows[j]}
    assert {(i, j) for i in range(len(grams)) for j in range(i) if grams[i] == grams[j]} == same
    assert len(same) > 5


def test_copies_are_found_in_another_key_and_new_music_is_not():
    item = hidden(piece(0))
    finder = CopyFinder()
    finder.add(item, item.original)
    finder.read([piece(5)])
    assert {name: ratio.value for name, ratio in finder.measure(item, item.original).items()} == {
        COPIED: 0,
        LONGEST: 0,
    }
    finder.read([piece(5), piece(0, shift=7)])
    measured = finder.measure(item, item.original)
    assert measured[COPIED].value == 1
    assert measured[LONGEST].value == max(length for length in LENGTHS if length <= item.notes)


def test_retrieval_finds_the_passage_with_the_same_surroundings_in_any_key_and_octave():
    item = hidden(piece(0))
    for shift in (0, 5, -10):
        found = retrieve([item], [piece(3), piece(0, shift=shift), piece(4)])[0]
        assert compare(item.prompt.cells, item.original, found)["note F1"].value == 1


def test_retrieval_does_not_use_the_original():
    item, other = hidden(piece(0)), hidden(piece(0, shift=0))
    others = [piece(3), piece(4)]
    emptied = tuple(() for _ in other.original)
    blank = type(other)(**{name: getattr(other, name) for name in other.__dataclass_fields__} | {"original": emptied})
    assert retrieve([item], others) == retrieve([blank], others)


def test_the_report_shows_that_retrieved_fills_are_copies(corpus):
    items = list(evaluation_items(corpus, split="valid", count=3, shapes=["track-4"]))
    training = [corpus.score(i) for i in corpus.split("train")]
    silence = System("silence", fills=lambda item: [[() for _ in item.original]])
    report = evaluate(items, [retrieval_system(items, training), silence], made={}, training=iter(training))
    assert report.value("retrieve from training", COPIED).value > 0.9
    assert report.value("retrieve from training", LONGEST).value >= 8
    assert report.value("silence", COPIED).gaps == 0
    assert COPIED not in evaluate(items, [silence], made={}).results["silence"]
