"""The copy gate replaces the model's probability of one token; the other tokens keep their proportions."""

import pytest
import torch

from harmonixr_model.infill.copy_gate import FEATURES, CopyGate
from harmonixr_model.prompt.copy_pointer import EVIDENCE, KINDS, Guess

CONSTANT = FEATURES.index("constant")


def gate(log_odds):
    weight_KF = torch.zeros(len(KINDS), len(FEATURES))
    weight_KF[:, CONSTANT] = log_odds
    return CopyGate(weight_KF)


def guess(token, *, kind=0):
    return Guess(token, kind, (1.0, *(0.0,) * (len(EVIDENCE) - 1)))


def mixed(log_odds, token, *, copy_strength=1.0):
    torch.manual_seed(0)
    logits_RV = torch.randn(2, 50)
    before = logits_RV.clone().softmax(-1)
    after = (
        gate(log_odds).mix(logits_RV, [guess(token), None], copy_strength=[copy_strength, copy_strength]).softmax(-1)
    )
    return before, after


def test_the_guess_gets_the_gates_probability_and_the_rest_keeps_its_proportions():
    before, after = mixed(2.0, 7)
    assert after[0, 7].item() == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=1e-4)
    rest = [v for v in range(50) if v != 7]
    ratio = after[0, rest] / before[0, rest]
    assert ratio.max().item() == pytest.approx(ratio.min().item(), rel=1e-3)
    assert torch.equal(after[1], before[1])


def test_copy_strength_interpolates_from_the_model_to_the_gate():
    before, none = mixed(3.0, 7, copy_strength=0.0)
    assert torch.equal(none, before)
    _, half = mixed(3.0, 7, copy_strength=0.5)
    _, whole = mixed(3.0, 7)
    assert half[0, 7].item() == pytest.approx((before[0, 7] + whole[0, 7]).item() / 2, abs=1e-4)


def test_a_gate_that_only_reads_the_models_odds_changes_nothing():
    weight_KF = torch.zeros(len(KINDS), len(FEATURES))
    weight_KF[:, FEATURES.index("model")] = 1.0
    torch.manual_seed(1)
    logits_RV = torch.randn(3, 50)
    before = logits_RV.clone().softmax(-1)
    guesses = [guess(3), guess(4, kind=1), guess(int(before[2].argmax()), kind=4)]
    after = CopyGate(weight_KF).mix(logits_RV, guesses, copy_strength=[1.0] * 3).softmax(-1)
    assert torch.allclose(after, before, atol=1e-5)


def test_a_gate_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="weights"):
        CopyGate(torch.zeros(2, 3))
