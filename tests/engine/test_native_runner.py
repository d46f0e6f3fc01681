"""The compiled library computes what the model computes, bit by bit the same in any batch; it is optional."""

import logging

import pytest
import torch

from harmonixr_model.engine.decoder import Decoder, run_prefill
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.engine.native import library as native_library
from harmonixr_model.engine.native.library import load_library
from harmonixr_model.engine.native.runner import NativeRunner
from harmonixr_model.engine.runner import TorchRunner
from harmonixr_model.engine.scheduler import EngineLimits, EngineLoop
from harmonixr_model.engine.selection import open_batch
from harmonixr_model.grammar.fill_grammar import check_fill
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.harmony import read_key
from harmonixr_model.prompt.chords import read_chords
from harmonixr_model.prompt.controls import AttributeControls
from harmonixr_model.prompt.coordinates import CONTROL_SIZE

PLAIN = Sampling()


def random_model(**shape):
    torch.manual_seed(1)
    model = InfillTransformer(InfillConfig(**shape, dropout=0.0, max_length=700)).eval()
    for block in model.layers():
        torch.nn.init.normal_(block.attention.out.weight, std=0.05)
        torch.nn.init.normal_(block.feedforward.out.weight, std=0.05)
    if model.embedding.asked is not None:
        torch.nn.init.normal_(model.embedding.asked.weight[1:], std=0.05)  # row 0: no control
    return model


def placed_tokens(prompt, tokens):
    """Return a fill's tokens with their coordinates, as `Runner.feed` takes them."""
    coordinates = prompt.fill_coordinates(tokens).tolist()
    return [(int(t), *c[:4], tuple(c[4:])) for t, c in zip(tokens, coordinates, strict=True)]


def follow(runner, prompt, tokens, *, chunk):
    """Return the logits after each chunk of a fill."""
    placed = placed_tokens(prompt, tokens)
    runner.join(0, run_prefill(runner.prefill(prompt)), prompt)
    at = range(0, len(placed), chunk)
    return torch.cat([runner.feed([placed[i : i + chunk]], [len(prompt.prefix) + i]) for i in at])


@pytest.mark.parametrize(
    "shape",
    [
        {"width": 64, "layers": 2, "heads": 1},
        {"width": 96, "layers": 3, "heads": 3},
        {"width": 256, "layers": 2, "heads": 2},
        {"width": 256, "layers": 1, "heads": 1},
        {"width": 64, "layers": 2, "heads": 1, "control_values": CONTROL_SIZE},
    ],
)
@torch.inference_mode()
def test_logits_equal_the_models_within_bf16_precision(library, prompt_of, shape):
    model = random_model(**shape)
    prompt = prompt_of(controls=AttributeControls(density=2, chords=read_chords("C Am | F"), style="pop"))
    [fill] = Decoder(model).generate(prompt, seeds=[1], sampling=PLAIN)
    tokens = fill.tokens[:150]
    for chunk in (1, 7):
        native = follow(NativeRunner(model, library), prompt, tokens, chunk=chunk)
        eager = follow(TorchRunner(model, rows=1, length=700), prompt, tokens, chunk=chunk)
        divergence = torch.nn.functional.kl_div(
            native.log_softmax(-1), eager.log_softmax(-1), log_target=True, reduction="none"
        ).sum(-1)
        assert divergence.max() < 1e-4
        assert (native - eager).abs().max() < 0.03 * eager.std()


def test_logits_are_bit_identical_alone_in_a_batch_and_in_chunks(library, prompt_of):
    model = random_model(width=96, layers=3, heads=3, control_values=CONTROL_SIZE)
    prompts = [
        prompt_of(controls=AttributeControls(density=2, key_hint=read_key("D"))),
        prompt_of(bars=(9, 9), tracks=(2, 3)),
    ]
    fills = [Decoder(model).generate(p, seeds=[i], sampling=PLAIN)[0].tokens[:60] for i, p in enumerate(prompts)]
    alone = [follow(NativeRunner(model, library), p, f, chunk=1) for p, f in zip(prompts, fills, strict=True)]
    placed = [placed_tokens(p, f) for p, f in zip(prompts, fills, strict=True)]
    runner = NativeRunner(model, library)
    prefixes = [run_prefill(runner.prefill(prompt)) for prompt in prompts]
    rows = [i % 3 % 2 for i in range(9)]
    for place, which in enumerate(rows):
        runner.join(place, prefixes[which], prompts[which])
    # Row i feeds i + 1 tokens at once, then all rows feed one token at a time, each at its own position.
    fed = [place + 1 for place in range(9)]
    chunks = [placed[which][: place + 1] for place, which in enumerate(rows)]
    for _ in range(min(map(len, placed)) - 10):
        before = [s - len(chunk) for s, chunk in zip(fed, chunks, strict=True)]
        out = runner.feed(chunks, [len(prompts[w].prefix) + b for w, b in zip(rows, before, strict=True)])
        for place, which in enumerate(rows):
            assert torch.equal(out[place], alone[which][fed[place] - 1])
        chunks = [[placed[which][fed[place]]] for place, which in enumerate(rows)]
        fed = [s + 1 for s in fed]


def test_compiled_fills_follow_the_grammar_and_are_the_same_in_any_batch(library, tiny_model, prompt_of):
    prompts = [prompt_of(), prompt_of(bars=(9, 9), tracks=(2, 3))]
    jobs = [(prompts[i % 2], i) for i in range(12)]
    decoder = Decoder(tiny_model, compiled=True)
    together = decoder.generate_each(jobs, sampling=PLAIN)
    for (prompt, seed), generated in zip(jobs, together, strict=True):
        check_fill(prompt.tables, generated.tokens)
        assert decoder.generate(prompt, seeds=[seed], sampling=PLAIN) == [generated]


def test_a_compiled_loop_equals_a_compiled_decoder(library, tiny_model, prompt_of):
    prompt = prompt_of()
    loop = EngineLoop.open(tiny_model, limits=EngineLimits(rows=5))
    handle = loop.submit(prompt, range(12), PLAIN)
    while not handle.has_ended:
        loop.turn()
    assert handle.result() == Decoder(tiny_model, compiled=True).generate(prompt, seeds=range(12), sampling=PLAIN)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native_library._load.cache_clear()
    yield tmp_path
    native_library._load.cache_clear()


def test_without_a_compiler_pytorch_decodes_and_the_log_says_why(empty_cache, tiny_model, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with caplog.at_level(logging.INFO):
        batch = open_batch(tiny_model, rows=1, compiled=True)
    assert isinstance(batch._runner, TorchRunner)
    assert "there is no C++ compiler" in caplog.text


def test_pytorch_decodes_where_the_compiler_fails(empty_cache, tiny_model, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "false")
    batch = open_batch(tiny_model, rows=1, compiled=True)
    assert isinstance(batch._runner, TorchRunner)
    assert "could not be compiled" in caplog.text
    assert not list(empty_cache.rglob("*.so"))


def test_the_library_is_compiled_only_on_request_and_cached(empty_cache, library, tiny_model):
    assert load_library(may_compile=False) is None
    Decoder(tiny_model)
    assert not list(empty_cache.rglob("*"))
    native_library._load.cache_clear()
    assert load_library(may_compile=True) is not None
    [kept] = empty_cache.rglob("*.so")
    written = kept.stat().st_mtime_ns
    native_library._load.cache_clear()
    assert load_library(may_compile=False) is not None
    assert load_library(may_compile=True) is not None
    assert kept.stat().st_mtime_ns == written
