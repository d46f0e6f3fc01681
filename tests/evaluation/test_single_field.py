"""Questions about one field of the notes: measured on that field, kept apart from the others, nothing else touched."""

import numpy as np
import pytest
import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.evaluation.baselines import MarkovBaseline
from harmonixr_model.evaluation.breakdown import ALL
from harmonixr_model.evaluation.likelihood import BITS, WITH_GRAMMAR, measured_bits
from harmonixr_model.evaluation.protocol import evaluation_items
from harmonixr_model.evaluation.report import NOTE_F1, evaluate
from harmonixr_model.evaluation.single_field import DURATION_OFF, RIGHT, VELOCITY_OFF, copied_field, field_measures
from harmonixr_model.evaluation.systems import Sampler, baseline_systems, human_system, model_system
from harmonixr_model.evaluation.validity import KEPT, PLACED, VALID, keeping
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.field_tokens import NOTE_FIELDS
from harmonixr_model.notes.vocabulary import VOCAB, Block

BLOCK_OF = {token: name for name, block in vars(VOCAB).items() if isinstance(block, Block) for token in block}

SHAPES = [f"{only}-only" for only in NOTE_FIELDS]


@pytest.fixture(scope="module")
def asked(corpus):
    return list(evaluation_items(corpus, split="valid", count=8, seed=2, shapes=SHAPES))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return InfillTransformer(InfillConfig(width=32, layers=1, heads=2, dropout=0.0, max_length=1024)).eval()


def test_only_the_asked_field_is_to_be_predicted(asked):
    blocks = {"pitch": {"pitch"}, "rhythm": {"position", "duration"}}
    for item in asked:
        said = [token for _, run in item.predicted_runs() for token in run]
        assert {BLOCK_OF[token] for token in said} == blocks.get(item.only, {item.only})
        assert len(said) == item.notes * (2 if item.only == "rhythm" else 1)


def test_the_truth_is_right_valid_and_changes_nothing(asked):
    for item in asked:
        kept = keeping(item, item.original)
        assert [kept[name].value for name in (VALID, KEPT, PLACED)] == [1, 1, 1]
        assert field_measures(item, item.original)[RIGHT].value == 1


def test_what_a_model_draws_is_always_valid_and_leaves_all_else_as_it_was(asked, model):
    sampler = Sampler(Decoder(model), 3, Sampling(top_p=1.0))
    for item in asked:
        for fill in sampler.fills(item):
            kept = keeping(item, fill)
            assert kept[VALID].value == kept[KEPT].value == 1
            assert len([n for notes in fill for n in notes]) == item.notes


def test_bits_are_those_of_the_field_and_the_grammar_only_takes_some_away(asked, model):
    for item in asked:
        bits = measured_bits(model, item)
        assert bits[WITH_GRAMMAR] <= bits[BITS] + 1e-3
        fields = {name.rsplit(", ")[-1] for name, said in bits.items() if said and name not in (BITS, WITH_GRAMMAR)}
        assert fields <= {"onset", "duration"} if item.only == "rhythm" else fields <= {item.only}


def test_a_fields_chain_gives_probabilities_that_sum_to_one_and_learns(corpus, asked):
    markov = MarkovBaseline.fit(corpus)
    for item in asked:
        bits, primed = markov.bits(item)[BITS], markov.bits_of_primed_ppm(item)[BITS]
        assert 0 < bits < item.notes * np.log2(VOCAB.size) * (2 if item.only == "rhythm" else 1)
        assert primed > 0
        track, run = item.predicted_runs()[0]
        chain = markov._chain(item, track)
        assert sum(chain.probability(tuple(run[:1]), token) for token in range(VOCAB.size)) == pytest.approx(1)


def test_a_copy_lends_the_field_and_nothing_else(asked):
    kept = {"pitch": (0, 1, 3), "velocity": (0, 1, 2), "duration": (0, 2, 3), "rhythm": (2, 3)}
    for item in asked:
        nothing = copied_field(item, [() for _ in item.prompt.cells])
        truth = copied_field(item, item.original)
        for notes, made, exact in zip(item.original, nothing, truth, strict=True):
            for was, one, two in zip(notes, made, exact, strict=True):
                for said in (one, two):
                    assert [said[i] for i in kept[item.only]] == [was[i] for i in kept[item.only]]
        assert field_measures(item, truth)[RIGHT].value == 1


def test_a_report_keeps_single_fields_apart_from_whole_notes(corpus, model):
    some = list(evaluation_items(corpus, split="valid", count=6, seed=1, shapes=["track-1", "velocity-only", "phrase"]))
    sampler = Sampler(Decoder(model), 1, Sampling())
    systems = [model_system(model, sampler), *baseline_systems(MarkovBaseline.fit(corpus)), human_system()]
    report = evaluate(some, systems, made={})
    whole = [item for item in some if item.only is None]
    assert report.value("model", BITS, ALL).gaps == len(whole) == 4
    assert report.value("model", BITS, "velocity-only").gaps == 2
    assert "velocity-only" not in report.results["model"][NOTE_F1]
    assert report.value("what was there", VELOCITY_OFF, "velocity-only").value == 0
    assert DURATION_OFF not in report.results["model"]
    assert "velocity-only" in report.to_markdown()
