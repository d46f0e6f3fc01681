"""The reward heads learn a known utility, split by piece, and weigh contexts rather than comparisons."""

import math

import numpy as np
import pytest
import torch

from harmonixr_model.preference.config import RewardConfig
from harmonixr_model.preference.loss import TIE, WIN, bootstrap_weights, outcome_log_probability, preference_loss
from harmonixr_model.preference.metrics import evaluate_rewards
from harmonixr_model.preference.model import RewardHeads, lower_bound, pool
from harmonixr_model.preference.pairs import RatedPair, context_batches, split_by_piece
from harmonixr_model.preference.report import _sigmoid
from harmonixr_model.training.reward_loop import RewardTraining, fit_rewards, score_pairs

# One layer of a trunk, all of it, and no musical measures.
PLAIN = {"trunk_width": 6, "trunk_layers": 1, "trunk_components": 12, "trunk_scale": 1.0, "music_features": 0}


def judged_world(pieces: int = 60, fills: int = 5, width: int = 6, seed: int = 0):
    """Fills whose hidden utility is linear in their features, judged by Davidson's model with a few ties."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(pieces * fills, 2 * width, generator=generator)
    utility = 3 * features[:, 0] - 2 * features[:, 3]
    pairs = []
    for piece in range(pieces):
        rows = range(piece * fills, (piece + 1) * fills)
        for a in rows:
            for b in rows:
                if a < b:
                    odds = torch.stack([utility[a], utility[b], (utility[a] + utility[b]) / 2 - 1])
                    outcome = int(torch.multinomial(odds.softmax(0), 1, generator=generator))
                    pairs.append(RatedPair(a, b, outcome, f"context-{piece}", f"piece-{piece}"))
    return features, utility, pairs


def test_outcome_probabilities_sum_to_one_and_a_tie_is_likeliest_between_equals():
    a, b = torch.tensor([[0.3], [2.0]]), torch.tensor([[0.3], [-1.0]])
    log_tie = torch.tensor(0.1)
    total = sum(outcome_log_probability(a, b, torch.full((2,), outcome), log_tie).exp() for outcome in range(3))
    torch.testing.assert_close(total, torch.ones(2, 1))
    tie = outcome_log_probability(a, b, torch.full((2,), TIE), log_tie)
    assert tie[0] > tie[1]


def test_swapping_the_sides_of_a_pair_swaps_the_outcomes():
    a, b, log_tie = torch.randn(4, 3), torch.randn(4, 3), torch.tensor(-0.7)
    torch.testing.assert_close(
        outcome_log_probability(a, b, torch.zeros(4, dtype=torch.long), log_tie),
        outcome_log_probability(b, a, torch.ones(4, dtype=torch.long), log_tie),
    )


def test_a_context_with_many_comparisons_counts_as_much_as_one_with_few():
    log_probability = torch.tensor([[-1.0], [-1.0], [-1.0], [-3.0]])
    loss = preference_loss(log_probability, context_C=torch.tensor([0, 0, 0, 1]), weight_CH=torch.ones(4, 1))
    assert loss.item() == pytest.approx((1.0 + 3.0) / 2)


def test_bootstrap_weights_are_shared_by_a_piece_and_differ_between_heads():
    weights = bootstrap_weights(["x", "y", "x", "z"] * 10, 16, seed=1)
    assert torch.equal(weights[0], weights[2])
    assert len({tuple(weights[:, h].tolist()) for h in range(16)}) > 1


def test_no_piece_is_both_trained_on_and_held_out():
    _, _, pairs = judged_world()
    train, valid = split_by_piece(pairs, held_out=0.2, seed=0)
    assert len(train) + len(valid) == len(pairs)
    assert not {pairs[i].piece_id for i in train} & {pairs[i].piece_id for i in valid}
    assert len({pairs[i].piece_id for i in valid}) == 12


def test_one_held_out_piece_gives_no_interval_and_so_no_false_certainty():
    one, two = torch.ones(20, 1), torch.zeros(20, 1)
    outcome = torch.zeros(20, dtype=torch.long)
    alone = evaluate_rewards(one, two, outcome, log_tie=torch.tensor(0.0), piece_ids=["only"] * 20)
    assert alone.accuracy == 1.0
    assert all(math.isnan(end) for end in alone.interval)


@pytest.mark.parametrize(("pieces", "held_out"), [(1, 0), (2, 1), (3, 1), (4, 2), (6, 2), (20, 4)])
def test_two_pieces_at_least_are_held_out_where_there_are_four(pieces, held_out):
    _, _, pairs = judged_world(pieces=pieces)
    _, valid = split_by_piece(pairs, held_out=0.2, seed=0)
    assert len({pairs[i].piece_id for i in valid}) == held_out


def test_ranks_share_an_epoch_and_yield_equally_many_batches():
    _, _, pairs = judged_world(pieces=10)
    seen: list[list[str]] = []
    for rank in range(2):
        batches = list(context_batches(pairs, range(len(pairs)), contexts=2, seed=3, epoch=1, rank=rank, world=2))
        seen.append([pairs[int(i)].context_id for batch in batches for i in batch.index_C])
        assert len(batches) == 3
    assert set(seen[0]) | set(seen[1]) == {f"context-{i}" for i in range(10)}


def test_heads_recover_a_hidden_utility_on_pieces_they_have_not_seen():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    features, utility, pairs = judged_world()
    train, valid = split_by_piece(pairs, held_out=0.25, seed=0)
    heads = RewardHeads(RewardConfig(heads=4, head_width=16, **PLAIN))
    epochs = list(fit_rewards(heads, features, pairs=pairs, train=train, valid=valid, config=RewardTraining(epochs=40)))
    metrics = score_pairs(heads, features, pairs=[pairs[i] for i in valid])
    assert metrics.log_loss == pytest.approx(min(epoch.held_out.log_loss for epoch in epochs), abs=1e-5)
    assert metrics.accuracy > 0.8
    assert metrics.interval[0] < metrics.accuracy < metrics.interval[1]
    unseen = sorted({row for i in valid for row in (pairs[i].first, pairs[i].second)})
    reward = heads(features[unseen]).mean(-1)
    correlation = torch.corrcoef(torch.stack([reward, utility[unseen]]))[0, 1]
    assert correlation > 0.9
    assert (lower_bound(heads(features[unseen])) < reward).all()


def test_fitting_is_the_same_when_run_again():
    features, _, pairs = judged_world(pieces=8)
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        heads = RewardHeads(RewardConfig(heads=2, head_width=4, **PLAIN))
        list(
            fit_rewards(
                heads, features, pairs=pairs, train=range(60), valid=range(60, 80), config=RewardTraining(epochs=3)
            )
        )
        states.append(heads.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_pooling_reads_the_fill_and_ignores_padding():
    hidden = torch.randn(2, 6, 3)
    features = pool(hidden, torch.tensor([2, 3]), torch.tensor([4, 6]))
    torch.testing.assert_close(features[0, :3], hidden[0, 2:4].mean(0))
    torch.testing.assert_close(features[0, 3:], hidden[0, 2:4].mean(0) - hidden[0, :2].mean(0))
    changed = hidden.clone()
    changed[0, 4:] = 100.0
    torch.testing.assert_close(pool(changed, torch.tensor([2, 3]), torch.tensor([4, 6]))[0], features[0])


def test_metrics_of_nothing_are_not_numbers_rather_than_made_up():
    empty = torch.zeros(0, 1)
    metrics = evaluate_rewards(empty, empty, torch.zeros(0, dtype=torch.long), log_tie=torch.tensor(0.0), piece_ids=[])
    assert metrics.comparisons == 0
    assert math.isnan(metrics.accuracy)


def test_a_confident_right_model_has_little_calibration_error_and_a_wrong_one_much():
    sure = torch.full((50, 1), 8.0)
    outcome = torch.full((50,), WIN)
    pieces = [str(i) for i in range(50)]
    right = evaluate_rewards(sure, -sure, outcome, log_tie=torch.tensor(-3.0), piece_ids=pieces)
    wrong = evaluate_rewards(-sure, sure, outcome, log_tie=torch.tensor(-3.0), piece_ids=pieces)
    assert right.calibration_error < 0.01 < 0.9 < wrong.calibration_error
    assert (right.accuracy, wrong.accuracy) == (1.0, 0.0)


def test_a_large_margin_gives_a_probability_without_overflow():
    """A model fitted to a handful of pairs may be as sure as that."""
    chances = _sigmoid(np.array([-5000.0, -1.0, 0.0, 1.0, 5000.0]))
    assert chances.tolist() == pytest.approx([0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1])
