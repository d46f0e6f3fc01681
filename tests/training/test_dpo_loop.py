"""DPO makes chosen fills likelier than rejected ones, on fill tokens alone and under the grammar's mask."""

import math

import pytest
import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.fill.session import FillSession
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.infill.packed import log_probabilities, pack
from harmonixr_model.music.compose import compose
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_model.music.write import write_midi
from harmonixr_model.preference.dpo import DpoConfig, Preferences, dpo_loss, measured_label_smoothing, preferences_of
from harmonixr_model.preference.loss import LOSS, TIE, WIN
from harmonixr_model.preference.pairs import RatedPair
from harmonixr_model.training.dpo_loop import DpoTraining, JudgedGap, train_dpo


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = InfillTransformer(InfillConfig(width=32, layers=2, heads=2, dropout=0.0, max_length=1024))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def gap(model):
    """Four fills of one gap with the engine's own log probabilities."""
    song = Song.parse(write_midi(compose(3, bars=4)))
    region = Region.bars(song.score, 1, 1, tracks=[2])
    prompt = FillSession(song, region, max_length=1024).next_prompt()
    return prompt, Decoder(model).generate(prompt, seeds=range(4), sampling=Sampling(top_p=1.0))


def test_packed_fills_have_the_log_probabilities_of_the_engine(model, gap):
    prompt, made = gap
    packed = pack(prompt, [each.tokens for each in made])
    with torch.no_grad():
        found = log_probabilities(model, packed)
    torch.testing.assert_close(found, torch.tensor([each.log_probability for each in made]), rtol=1e-4, atol=1e-3)


def test_a_fill_has_the_same_log_probability_alone_and_packed(model, gap):
    prompt, made = gap
    with torch.no_grad():
        together = log_probabilities(model, pack(prompt, [each.tokens for each in made]))
        alone = [log_probabilities(model, pack(prompt, [each.tokens])) for each in made]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-3)


def test_forced_tokens_add_no_log_probability(gap):
    prompt, made = gap
    packed = pack(prompt, [made[0].tokens])
    forced = sum(len(header) for header in prompt.headers) + 1
    assert int(packed.sampled_S[0]) == len(made[0].tokens) - forced


def test_training_makes_chosen_fills_likelier_than_rejected_ones(model, gap):
    prompt, made = gap
    learner = InfillTransformer(model.config)
    learner.load_state_dict(model.state_dict())
    packed = pack(prompt, [each.tokens for each in made])
    chosen = Preferences(torch.tensor([0, 0, 1]), torch.tensor([2, 3, 3]), torch.full((3,), 1 / 3))
    judged = JudgedGap(packed, chosen, "piece")
    config = DpoTraining(epochs=12, gaps_per_step=1, learning_rate=1e-3, warmup=1, loss=DpoConfig(beta=0.5))
    steps = list(train_dpo(learner, [judged], held_out=[], config=config))
    assert steps[0].train.preference == pytest.approx(math.log(2), abs=1e-4)
    assert steps[-1].train.accuracy == 1.0
    assert steps[-1].train.margin > 0.5
    with torch.no_grad():
        moved = log_probabilities(learner, packed) - log_probabilities(model, packed)
    assert moved[0] > moved[2]
    assert moved[1] > moved[3]


def test_smoothing_has_no_gradient_where_the_margin_matches_the_labels():
    preferences = Preferences(torch.tensor([0]), torch.tensor([1]), torch.ones(1))
    drawn = torch.ones(2)
    config = DpoConfig(beta=1.0, label_smoothing=0.2, rpo_alpha=0.0)
    # Where the chance of the chosen is 0.8, labels wrong one time in five pull neither way.
    settled = math.log(0.8 / 0.2)
    policy = torch.tensor([settled, 0.0], requires_grad=True)
    dpo_loss(policy, torch.zeros(2), preferences, sampled_S=drawn, config=config).total.backward()
    assert policy.grad is not None
    assert policy.grad.abs().max() < 1e-6


def test_a_pair_weighs_the_same_however_often_it_was_judged_and_ties_are_left_out():
    rated = [RatedPair(5, 6, WIN, "c", "p"), RatedPair(6, 5, LOSS, "c", "p"), RatedPair(5, 6, LOSS, "c", "p")]
    rated += [RatedPair(5, 7, WIN, "c", "p"), RatedPair(6, 7, TIE, "c", "p")]
    found = preferences_of(rated, [5, 6, 7])
    assert found is not None
    weights = {
        (int(w), int(loser)): float(weight)
        for w, loser, weight in zip(found.chosen_C, found.rejected_C, found.weight_C, strict=True)
    }
    assert weights == pytest.approx({(0, 1): 2 / 6, (1, 0): 1 / 6, (0, 2): 1 / 2})
    assert preferences_of([RatedPair(1, 2, TIE, "c", "p")], [1, 2]) is None


def test_smoothing_follows_the_raters_disagreement():
    assert measured_label_smoothing(0.9) == pytest.approx(0.1)
    assert measured_label_smoothing(math.nan) == 0.0
    assert measured_label_smoothing(0.5) == 0.4
