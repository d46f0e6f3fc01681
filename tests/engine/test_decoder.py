"""The decoder, on a tiny model with random weights: fills are valid, batches and caches change nothing."""

from dataclasses import replace

import pytest
import torch

from harmonixr_model.engine.decoder import MAX_ROWS, Decoder
from harmonixr_model.engine.engine import DEFAULT_TEMPERATURE, DRUM_TEMPERATURE, Sampling
from harmonixr_model.errors import ControlError, PromptError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.fill_grammar import FillGrammar, check_fill
from harmonixr_model.notes.vocabulary import VOCAB

EOS = VOCAB.id("EOS")


@pytest.fixture(scope="module")
def decoder(tiny_model):
    return Decoder(tiny_model)


def test_every_fill_follows_the_grammar_and_ends(decoder, prompt_of):
    prompt = prompt_of(limits=Constraints(max_polyphony=2, scale=(0, 2, 4, 5, 7, 9, 11), min_notes_per_bar=2))
    for generated in decoder.generate(prompt, seeds=range(8), sampling=Sampling(top_p=1.0)):
        check_fill(prompt.tables, generated.tokens)
        assert generated.tokens[-1] == EOS
        assert len(generated.tokens) <= prompt.tables.max_tokens


def test_the_same_seed_gives_the_same_fill_alone_and_in_any_batch(decoder, prompt_of):
    prompt = prompt_of()
    together = decoder.generate(prompt, seeds=range(8), sampling=Sampling())
    alone = [decoder.generate(prompt, seeds=[seed], sampling=Sampling())[0] for seed in range(8)]
    backwards = decoder.generate(prompt, seeds=range(7, -1, -1), sampling=Sampling())[::-1]
    assert [g.tokens for g in together] == [g.tokens for g in alone] == [g.tokens for g in backwards]
    assert len({g.tokens for g in together}) > 4
    for one, other in zip(together, alone, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-2)


def test_prompts_in_one_batch_get_the_fills_they_get_alone(decoder, prompt_of):
    prompts = [prompt_of(), prompt_of(bars=(9, 9), tracks=(2, 3)), prompt_of(bars=(0, 1))]
    jobs = [(prompts[i % 3], 100 + i) for i in range(7)]
    together = decoder.generate_each(jobs, sampling=Sampling())
    alone = [decoder.generate(prompt, seeds=[seed], sampling=Sampling())[0] for prompt, seed in jobs]
    assert [g.tokens for g in together] == [g.tokens for g in alone]


def test_forced_tokens_fed_in_small_chunks_change_nothing(decoder, prompt_of, monkeypatch):
    jobs = [(prompt_of(), 1), (prompt_of(bars=(9, 9), tracks=(2, 3)), 2)]
    whole = decoder.generate_each(jobs, sampling=Sampling())
    monkeypatch.setattr("harmonixr_model.engine.batch.MAX_CHUNK", 2)
    assert [g.tokens for g in decoder.generate_each(jobs, sampling=Sampling())] == [g.tokens for g in whole]


def test_the_default_temperature_depends_on_the_tracks(decoder, prompt_of, song):
    drums = next(i for i, track in enumerate(song.score.tracks) if track.is_drum)
    for tracks, temperature in (((drums,), DRUM_TEMPERATURE), ((0,), DEFAULT_TEMPERATURE), ((0, drums), 0.8)):
        jobs = [(prompt_of(bars=(4, 4), tracks=tracks), seed) for seed in range(4)]
        left_out = decoder.generate_each(jobs, sampling=Sampling())
        given = decoder.generate_each(jobs, sampling=Sampling(temperature=temperature))
        other = decoder.generate_each(jobs, sampling=Sampling(temperature=2 * temperature))
        assert [g.tokens for g in left_out] == [g.tokens for g in given] != [g.tokens for g in other]


def test_more_candidates_than_rows_all_get_fills(decoder, prompt_of):
    prompt = prompt_of(bars=(4, 4), tracks=(2,))
    answers = decoder.generate(prompt, seeds=range(MAX_ROWS + 3), sampling=Sampling())
    last = decoder.generate(prompt, seeds=[MAX_ROWS + 2], sampling=Sampling())
    assert len(answers) == MAX_ROWS + 3
    assert answers[-1].tokens == last[0].tokens


@torch.inference_mode()
def test_cached_decoding_equals_the_model_without_a_cache(decoder, prompt_of):
    """Greedy decoding token by token over the whole sequence gives the same fill and the same log probability."""
    prompt = prompt_of(bars=(4, 4), tracks=(0,))
    generated = decoder.generate(prompt, seeds=[0], sampling=Sampling(temperature=0))[0]
    tokens = torch.tensor([[*prompt.prefix.tolist(), *generated.tokens]])
    fill_coordinates = torch.from_numpy(prompt.fill_coordinates(generated.tokens)).long()
    coordinates = torch.cat([torch.from_numpy(prompt.coordinates).long(), fill_coordinates])[None]
    logits = decoder.model(tokens, coordinates, torch.tensor([len(prompt.prefix)]))[0, len(prompt.prefix) - 1 : -1]
    grammar, total = FillGrammar(prompt.tables), 0.0
    for row, token in zip(logits, generated.tokens, strict=True):
        allowed = torch.from_numpy(grammar.allowed())
        if grammar.forced is None:
            masked = row.masked_fill(~allowed, float("-inf"))
            assert float(masked.max() - masked[token]) < 1e-4
            total += float(masked.log_softmax(-1)[token])
        grammar.advance(token)
    assert generated.log_probability == pytest.approx(total, abs=1e-3)


def test_a_budget_that_runs_out_closes_the_fill_in_time(decoder, prompt_of):
    prompt = prompt_of()
    prompt = replace(prompt, tables=replace(prompt.tables, max_tokens=45))
    generated = decoder.generate(prompt, seeds=range(6), sampling=Sampling(temperature=3, top_p=1.0))
    assert 35 < max(len(g.tokens) for g in generated) <= 45
    for g in generated:
        check_fill(prompt.tables, g.tokens)


def test_a_prompt_longer_than_the_model_is_refused_with_a_remedy(decoder, prompt_of):
    prompt = prompt_of(max_length=1200)
    with pytest.raises(PromptError, match="choose a smaller region"):
        decoder.generate(prompt, seeds=[0], sampling=Sampling())


@pytest.mark.parametrize(
    "values", [{"temperature": -1}, {"temperature": 9}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}]
)
def test_sampling_out_of_range_is_refused(values):
    with pytest.raises(ControlError, match="give"):
        Sampling(**values)
