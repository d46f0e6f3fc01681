"""Items with a single hidden field: measured on that field, reported separately, nothing else changed."""

import numpy as np
import pytest
import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.evaluation.baselines import MarkovBaseline
from harmonixr_model.evaluation.breakdown import ALL
from harmonixr_model.evaluation.likelihood import BITS, WITH_GRAMMAR, measured_bits
from harmonixr_model.evaluation.markdown import to_markdown
from harmonixr_model.evaluation.protocol import evaluation_items
from harmonixr_model.evaluation.report import NOTE_F1, evaluate
from harmonixr_model.evaluation.single_field import DURATION_ERROR, RIGHT, VELOCITY_ERROR, copied_field, field_measures
from harmonixr_model.evaluation.systems import SampledFills, baseline_systems, human_system, model_system
from harmonixr_model.evaluation.validity import PLACED, PRESERVED, VALID, validity_measures
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.field_tokens import NOTE_FIELDS
from harmonixr_model.notes.vocabulary import VOCAB, Block

BLOCK_OF = {token: name for name, block in vars(VOCAB).items() if isinstance(block, Block) for token in block}

SHAPES = [f"{field}-only" for field in NOTE_FIELDS]


@pytest.fixture(scope="module")
def items(corpus):
    return list(evaluation_items(corpus, split="valid", count=8, seed=2, shapes=SHAPES))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return InfillTransformer(InfillConfig(width=32, layers=1, heads=2, dropout=0.0, max_length=1024)).eval()


def test_only_the_hidden_field_is_predicted(items):
    blocks = {"pitch": {"pitch"}, "rhythm": {"position", "duration"}}
    for item in items:
        tokens = item.predicted_tokens()
        assert {BLOCK_OF[token] for token in tokens} == blocks.get(item.field, {item.field})
        assert len(tokens) == item.notes * (2 if item.field == "rhythm" else 1)


def test_the_original_is_right_valid_and_changes_nothing(items):
    for item in items:
        measures = validity_measures(item, item.original)
        assert [measures[name].value for name in (VALID, PRESERVED, PLACED)] == [1, 1, 1]
        assert field_measures(item, item.original)[RIGHT].value == 1


def test_sampled_fills_are_always_valid_and_preserve_all_other_fields(items, model):
    sampled = SampledFills(Decoder(model), 3, Sampling(top_p=1.0))
    for item in items:
        for fill in sampled.fills(item):
            measures = validity_measures(item, fill)
            assert measures[VALID].value == measures[PRESERVED].value == 1
            assert len([n for notes in fill for n in notes]) == item.notes


def test_bits_are_those_of_the_field_and_the_grammar_only_lowers_them(items, model):
    for item in items:
        bits = measured_bits(model, item)
        assert bits[WITH_GRAMMAR] <= bits[BITS] + 1e-3
        fields = {name.rsplit(", ")[-1] for name, value in bits.items() if value and name not in (BITS, WITH_GRAMMAR)}
        assert fields <= {"onset", "duration"} if item.field == "rhythm" else fields <= {item.field}


def test_the_probabilities_of_a_field_s_chain_sum_to_one(corpus, items):
    markov = MarkovBaseline.fit(corpus)
    for item in items:
        bits, primed = markov.bits(item)[BITS], markov.bits_of_primed_ppm(item)[BITS]
        assert 0 < bits < item.notes * np.log2(VOCAB.size) * (2 if item.field == "rhythm" else 1)
        assert primed > 0
        track, run = item.predicted_runs()[0]
        chain = markov._chain(item, track)
        assert sum(chain.probability(tuple(run[:1]), token) for token in range(VOCAB.size)) == pytest.approx(1)


def test_a_copy_sets_the_hidden_field_and_nothing_else(items):
    unchanged = {"pitch": (0, 1, 3), "velocity": (0, 1, 2), "duration": (0, 2, 3), "rhythm": (2, 3)}
    for item in items:
        nothing = copied_field(item, [() for _ in item.prompt.cells])
        truth = copied_field(item, item.original)
        for notes, made, exact in zip(item.original, nothing, truth, strict=True):
            for old, one, two in zip(notes, made, exact, strict=True):
                for copy in (one, two):
                    assert all(copy[i] == old[i] for i in unchanged[item.field])
        assert field_measures(item, truth)[RIGHT].value == 1


def test_a_report_separates_single_fields_from_whole_notes(corpus, model):
    some = list(evaluation_items(corpus, split="valid", count=6, seed=1, shapes=["track-1", "velocity-only", "phrase"]))
    sampled = SampledFills(Decoder(model), 1, Sampling())
    systems = [model_system(model, sampled), *baseline_systems(MarkovBaseline.fit(corpus)), human_system()]
    report = evaluate(some, systems, made={})
    whole = [item for item in some if item.field is None]
    assert report.value("model", BITS, ALL).gaps == len(whole) == 4
    assert report.value("model", BITS, "velocity-only").gaps == 2
    assert "velocity-only" not in report.results["model"][NOTE_F1]
    assert report.value("human original", VELOCITY_ERROR, "velocity-only").value == 0
    assert DURATION_ERROR not in report.results["model"]
    assert "velocity-only" in to_markdown(report)
