"""Controls of training examples: they measure the target, and are included by chance."""

from collections import Counter

import numpy as np
import pytest

from harmonixr_model.data.controls import sample_controls, with_controls
from harmonixr_model.data.corpus import Corpus, Piece
from harmonixr_model.data.dataset import NARROW_PREFIX, DatasetConfig, InfillDataset, build_example
from harmonixr_model.data.masking import Mask
from harmonixr_model.data.styles import composer_of, style_of
from harmonixr_model.music.compose import compose
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.grid import quantize
from harmonixr_model.notes.vocabulary import VOCAB, Block
from harmonixr_model.prompt.builder import build_prompt
from harmonixr_model.prompt.control_values import (
    density_token,
    mean_velocity_token,
    measure_density,
    measure_polyphony,
    measure_velocity,
    polyphony_token,
)
from harmonixr_model.prompt.controls import TRAINED
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_model.training.composed_corpus import write_composed_corpus

BLOCK_OF = {token: name for name, block in vars(VOCAB).items() if isinstance(block, Block) for token in block}

CONTROL_BLOCKS = {"density", "polyphony", "velocity_range", "chord", "key", "style", "composer"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus.open(write_composed_corpus(tmp_path_factory.mktemp("corpus"), pieces=8, bars=24))


def blocks_of(example) -> set[str]:
    return {BLOCK_OF[int(token)] for token in example.tokens} & CONTROL_BLOCKS


def gap(full, bar, tracks=(0, 1, 3)):
    start, end = full.score.bars[bar].start, full.score.bars[bar].end
    return Mask(tuple(GridCell(track, start, end) for track in tracks), frozenset(), None)


def test_half_of_the_examples_have_no_controls_and_each_control_has_its_share():
    rng = np.random.default_rng(0)
    drawn = [sample_controls(rng, share=0.5) for _ in range(4000)]
    silent = sum(not names for names in drawn) / len(drawn)
    assert 0.48 < silent < 0.56
    names = Counter(name for names in drawn for name in names)
    for name, control in TRAINED.items():
        assert abs(names[name] / len(drawn) - control.training_chance / 2) < 0.03
    assert set(names) == set(TRAINED)


def test_a_dataset_without_controls_has_none_and_one_with_them_is_reproducible(corpus):
    bare = InfillDataset(corpus, DatasetConfig(max_tokens=512))
    assert not any(blocks_of(bare.example(i, step=0, seed=0)) for i in range(20))
    names = InfillDataset(corpus, DatasetConfig(max_tokens=512, control_share=0.5))
    again = InfillDataset(corpus, DatasetConfig(max_tokens=512, control_share=0.5))
    again.example(7, step=7, seed=7)  # what was drawn before changes nothing
    examples = [names.example(i, step=0, seed=0) for i in range(40)]
    assert 8 < sum(bool(blocks_of(example)) for example in examples) < 32
    for i, example in enumerate(examples):
        np.testing.assert_array_equal(example.tokens, again.example(i, step=0, seed=0).tokens)
        assert len(example.tokens) <= 512


def test_each_cells_controls_measure_its_target_and_carry_no_loss():
    full = EncodedScore(quantize(compose(2, bars=16)))
    mask = with_controls(full, gap(full, 5), TRAINED, tags={"style": "pop", "composer": "Bach"})
    for cell in mask.cells:
        assert [BLOCK_OF[token] for token in cell.controls[:3]] == ["key", "style", "composer"]
        hidden = full.hidden(cell)
        expected = (
            density_token(measure_density(hidden, cell)),
            polyphony_token(measure_polyphony(hidden, cell)),
            mean_velocity_token(measure_velocity(hidden, cell)),
        )
        assert cell.controls[3:6] == expected
        has_chord = any(token in VOCAB.chord for token in cell.controls)
        assert has_chord == (not full.tracks[cell.track].is_drum)
    example = build_example(full, mask, max_tokens=4096)
    prompt = build_prompt(full.without(mask.cells), mask.cells, max_prefix_tokens=4096)
    np.testing.assert_array_equal(example.tokens[: example.prefix_length], prompt.prefix)
    fills = decode_fill(prompt, example.tokens[example.prefix_length :])
    assert [list(fill) for fill in fills] == [list(full.hidden(cell)) for cell in prompt.cells]
    assert not any(BLOCK_OF[int(t)] in CONTROL_BLOCKS for t in example.tokens[example.loss_mask])


def test_a_silent_cell_has_a_density_of_zero():
    full = EncodedScore(quantize(compose(2, bars=16)))
    bar = full.score.bars[5]
    silent = EncodedScore(
        full.score.replace_notes({0: [n for n in full.tracks[0].notes if not bar.start <= n.onset < bar.end]})
    )
    mask = with_controls(silent, gap(silent, 5, tracks=(0,)), ("density", "polyphony", "velocity"))
    assert mask.cells[0].controls == (density_token(0),)


def test_tags_come_from_the_source_the_file_name_and_the_manifest():
    assert style_of(Piece("a.mid", source="pop909")) == "pop"
    assert style_of(Piece("groove/groove__drummer9__session1__9_rock_100_beat_4-4.mid", source="groove")) == "rock"
    assert style_of(Piece("drummer1/session2/3_jazz-fusion_96_fill_4-4.mid", source="groove")) == "jazz"
    assert style_of(Piece("x.mid", source="mine")) is None
    assert style_of(Piece("x.mid", source="mine", styles=("piano", "jazz"))) == "jazz"
    assert composer_of(Piece("x.mid", composer="Hensel")) == "Hensel"
    assert composer_of(Piece("x.mid", composer="Nobody")) is None


def test_many_examples_with_controls_have_little_context(corpus):
    dataset = InfillDataset(corpus, DatasetConfig(max_tokens=768, control_share=1.0))
    examples = [dataset.example(i, step=0, seed=0) for i in range(40)]
    narrow = [example for example in examples if example.prefix_length <= NARROW_PREFIX]
    assert 6 < len(narrow) < 34
    assert all(len(example.tokens) <= 768 for example in examples)
