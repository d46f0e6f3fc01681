"""CandidateSampler keeps to the mask, follows the distribution, and gives each row its own stream."""

import pytest
import torch

from harmonixr_model.infill.sample import keep_top, sample, uniforms

torch.set_num_threads(1)
VOCABULARY = 12


def draw(logits, allowed, *, seeds, temperature=1.0, top_k=0, top_p=1.0):
    rows = len(logits)
    return sample(
        logits,
        allowed,
        uniform_R=torch.cat([uniforms(seed, 1) for seed in seeds]),
        temperature_R=torch.full((rows,), float(temperature)),
        top_k_R=torch.full((rows,), top_k),
        top_p_R=torch.full((rows,), top_p),
    )


def random_rows(rows, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, VOCABULARY, generator=generator) * 3
    allowed = torch.rand(rows, VOCABULARY, generator=generator) < 0.4
    allowed[:, 3] = True
    return logits, allowed


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0}, {"temperature": 5.0}, {"top_k": 1}, {"top_p": 0.01}, {"top_k": 3, "top_p": 0.5}],
)
def test_no_token_outside_the_mask_is_sampled(options):
    logits, allowed = random_rows(500)
    # The likeliest of all is forbidden everywhere.
    logits[:, 7], allowed[:, 7] = 50.0, False
    tokens, log_probability = draw(logits, allowed, seeds=range(500), **options)
    assert allowed.gather(1, tokens[:, None]).all()
    assert torch.isfinite(log_probability).all()


def test_a_mask_that_leaves_one_token_gives_it_whatever_its_logit():
    logits = torch.zeros(3, VOCABULARY)
    logits[:, 5] = -1e4
    allowed = torch.zeros(3, VOCABULARY, dtype=torch.bool)
    allowed[:, 5] = True
    tokens, log_probability = draw(logits, allowed, seeds=range(3), top_p=0.9)
    assert tokens.tolist() == [5, 5, 5]
    assert log_probability.tolist() == [0, 0, 0]


def test_temperature_zero_takes_the_likeliest_allowed_token():
    logits, allowed = random_rows(50)
    tokens, _ = draw(logits, allowed, seeds=range(50), temperature=0)
    assert torch.equal(tokens, logits.masked_fill(~allowed, float("-inf")).argmax(-1))


def test_token_frequencies_follow_the_distribution():
    logits, allowed = random_rows(1, seed=4)
    rows = 20_000
    tokens, _ = draw(logits.expand(rows, -1), allowed.expand(rows, -1), seeds=range(rows), temperature=1.5)
    expected = (logits.masked_fill(~allowed, float("-inf")) / 1.5).softmax(-1)[0]
    found = torch.bincount(tokens, minlength=VOCABULARY) / rows
    assert (found - expected).abs().max() < 0.015


def test_log_probability_is_under_the_mask_at_temperature_1():
    logits, allowed = random_rows(40)
    tokens, log_probability = draw(logits, allowed, seeds=range(40), temperature=0.3, top_k=2, top_p=0.7)
    whole = logits.masked_fill(~allowed, float("-inf")).log_softmax(-1)
    assert torch.equal(log_probability, whole.gather(1, tokens[:, None])[:, 0])


def test_a_row_samples_the_same_alone_and_in_a_batch():
    logits, allowed = random_rows(32)
    together, _ = draw(logits, allowed, seeds=range(32))
    alone = [int(draw(logits[i : i + 1], allowed[i : i + 1], seeds=[i])[0]) for i in range(32)]
    assert together.tolist() == alone


def test_another_seed_samples_other_tokens():
    logits = torch.zeros(1, 1000)
    drawn = {int(draw(logits, torch.ones(1, 1000, dtype=torch.bool), seeds=[seed])[0]) for seed in range(20)}
    assert len(drawn) > 15


def test_a_stream_is_the_same_however_far_it_is_read():
    assert torch.equal(uniforms(7, 300)[:40], uniforms(7, 40))
    assert not torch.equal(uniforms(7, 40), uniforms(8, 40))


def kept(logits, *, top_k, top_p):
    return torch.isfinite(keep_top(logits, top_k_R=torch.tensor([top_k]), top_p_R=torch.tensor([top_p])))


def test_top_k_keeps_k_and_top_p_the_smallest_set_that_reaches_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert kept(logits, top_k=2, top_p=1.0).tolist() == [[True, True, False, False]]
    assert kept(logits, top_k=0, top_p=0.79).tolist() == [[True, True, False, False]]
    assert kept(logits, top_k=0, top_p=0.81).tolist() == [[True, True, True, False]]
    assert kept(logits, top_k=0, top_p=1e-9).tolist() == [[True, False, False, False]]
    assert kept(logits, top_k=99, top_p=1.0).all()


def test_each_row_has_its_own_settings():
    logits, allowed = random_rows(3, seed=5)
    settings = {"temperature_R": [0.0, 1.0, 2.0], "top_k_R": [0, 2, 0], "top_p_R": [1.0, 1.0, 0.5]}
    uniform = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    together, _ = sample(logits, allowed, uniform_R=uniform, **{k: torch.tensor(v) for k, v in settings.items()})
    for i in range(3):
        own = {name: torch.tensor(values[i : i + 1]) for name, values in settings.items()}
        alone, _ = sample(logits[i : i + 1], allowed[i : i + 1], uniform_R=uniform[i : i + 1], **own)
        assert together[i] == alone[0]
