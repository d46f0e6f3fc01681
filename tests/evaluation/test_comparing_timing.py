"""The comparison of MICRO on and off: bits are parted without loss, both arms are asked the same notes."""

import argparse
import sys
from pathlib import Path

import pytest
import torch

from harmonixr_model.music.score import Note
from harmonixr_model.notes.text import from_text
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.training.composed_corpus import write_composed_corpus

torch.set_num_threads(1)
SAID = from_text("POS_0 PITCH_36 MICRO_-3 DUR_6 VEL_66 PITCH_42 DUR_6 END")


@pytest.fixture(scope="module", autouse=True)
def benchmarks():
    """Let `parts` be imported as the scripts beside it do."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


def test_bits_of_notes_and_of_offsets_are_all_the_bits_there_are():
    from parts.timing_runs import split_bits

    logits = torch.randn(len(SAID), VOCAB.size, generator=torch.Generator().manual_seed(0))
    notes, timing, guesses = split_bits(logits, SAID)
    log = logits.double().log_softmax(-1)
    whole = -sum(float(log[n, token]) for n, token in enumerate(SAID)) / torch.tensor(2.0).log().item()
    assert sum(notes.values()) + timing == pytest.approx(whole, rel=1e-5)
    assert len(guesses) == 2


def test_a_note_on_the_grid_costs_no_offset_where_none_is_expected_and_all_where_one_is():
    from parts.timing_runs import split_bits

    logits = torch.zeros(len(SAID), VOCAB.size)
    logits[:, VOCAB.micro.start : VOCAB.micro.stop] = -60.0
    logits[2, VOCAB.id("MICRO_-3")] = 60.0
    _, timing, guesses = split_bits(logits, SAID)
    assert timing == pytest.approx(0, abs=1e-6)
    assert guesses == [-3, 0]
    logits[6, VOCAB.id("MICRO_+5")] = 20.0
    _, timing, guesses = split_bits(logits, SAID)
    assert timing > 15
    assert guesses == [-3, 5]


def test_jitter_moves_each_note_within_its_step_and_changes_nothing_else():
    from parts.timing_runs import jittered

    fill = [tuple(Note(step, 6, 36, 66) for step in range(60))]
    moved = jittered([[fill]])[0][0]
    assert [note._replace(micro=0) for note in moved[0]] == list(fill[0])
    assert {note.micro for note in moved[0]} <= set(range(-12, 13))
    assert len({note.micro for note in moved[0]}) > 15


def test_both_arms_are_trained_asked_and_laid_out(tmp_path):
    from micro import compare

    corpus = write_composed_corpus(tmp_path / "corpus", pieces=10)
    args = argparse.Namespace(corpus=corpus, sources=[], width=32, layers=1, heads=1, tokens=1024, batch_tokens=512)
    vars(args).update(context=256, lr=3e-3, questions=6, samples=1, seeds=1)
    table = compare(args, tmp_path / "runs")
    assert "| on the grid | " in table
    assert "| with MICRO | " in table
    assert "| what was there | 1.000" in table
    assert compare(args, tmp_path / "runs") == table  # finished arms are kept
