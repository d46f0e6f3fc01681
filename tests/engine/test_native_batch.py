"""Rows that the compiled library steps say what rows stepped in Python say, token by token, however they are mixed."""

import pytest
import torch

from harmonixr_model.engine.batch import PythonBatch
from harmonixr_model.engine.decoder import Decoder, finish
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.engine.native.batch import NativeBatch
from harmonixr_model.engine.native.runner import NativeRunner
from harmonixr_model.engine.native.sampler import NativeSampler
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.scheduler import EngineLoop
from harmonixr_model.infill.copy_gate import FEATURES, CopyGate
from harmonixr_model.prompt.controls import AttributeControls
from harmonixr_model.prompt.coordinates import place_updates
from harmonixr_model.prompt.copy_pointer import KINDS

SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(temperature=1.3, top_k=9, top_p=1.0),
    Sampling(copy_strength=0.5),
]


@pytest.fixture(scope="module")
def gate():
    return CopyGate(torch.randn(len(KINDS), len(FEATURES), generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def runner(library, tiny_model):
    return NativeRunner(tiny_model, library)


def run(batch, rows, *, most):
    """Step until all rows are whole; a second row joins every second call. Returns what was told of each."""
    told = {row: [] for row in rows}
    coming = list(rows)
    calls = 0
    while coming or batch.rows:
        if coming and calls % 2 == 0:
            row = coming.pop(0)
            batch.join(row, finish(batch.read(row.prompt)))
        calls += 1
        for row in batch.step(most=most):
            told[row] += [row.said(cell) for cell in range(row.told, row.cell)]
            row.told = row.cell
    return [told[row] for row in rows]


@pytest.mark.parametrize("most", [1, 4])
def test_rows_say_what_they_say_in_python(library, runner, gate, prompt_of, most):
    prompts = [prompt_of(), prompt_of(bars=(9, 10), tracks=(2, 3))]
    rows, same = ([Row(prompts[i % 2], i, SAMPLINGS[i % 4]) for i in range(8)] for _ in range(2))
    told = run(NativeBatch(runner, library, gate=gate), rows, most=most)
    assert told == run(PythonBatch(runner, NativeSampler(library, gate=gate)), same, most=1)
    for row, other in zip(rows, same, strict=True):
        assert row.is_finished
        assert row.generated == other.generated


def test_a_row_that_leaves_takes_nothing_from_the_others(library, runner, prompt_of):
    prompt = prompt_of()
    batch = NativeBatch(runner, library)
    rows = [Row(prompt, seed, Sampling()) for seed in range(3)]
    for row in rows:
        batch.join(row, finish(batch.read(prompt)))
    batch.step(most=5)
    batch.leave(rows[0])
    while batch.rows:
        batch.step(most=3)
    for row in rows[1:]:
        [alone] = [Row(prompt, row.seed, Sampling())]
        run(NativeBatch(runner, library), [alone], most=1)
        assert row.generated == alone.generated


def test_fills_with_and_without_controls_are_the_same_side_by_side(library, tiny_model, prompt_of):
    prompts = [prompt_of(), prompt_of(controls=AttributeControls(density=2))]
    assert [prompt.is_conditional for prompt in prompts] == [False, True]
    jobs = [(prompts[i % 2], i) for i in range(6)]
    decoder = Decoder(tiny_model, compiled=True)
    together = decoder.generate_each(jobs, sampling=Sampling())
    assert together == [decoder.generate(p, seeds=[s], sampling=Sampling())[0] for p, s in jobs]


def test_who_is_followed_is_told_of_every_cell_before_more_is_drawn(library, tiny_model, prompt_of):
    loop = EngineLoop.open(tiny_model)
    ticket, counts = loop.submit(prompt_of(), (1,), Sampling()), []
    ticket.listen(lambda event: counts.append(loop.stats().steps))
    while not ticket.is_over:
        loop.turn()
    followed = loop.stats().steps
    again = loop.submit(prompt_of(), (1,), Sampling())
    while not again.is_over:
        loop.turn()
    assert ticket.result() == again.result()
    assert loop.stats().steps - followed < followed / 2
    assert len(set(counts)) > 2


def test_places_are_those_of_coordinates(library, tiny_model, prompt_of):
    prompt = prompt_of()
    [fill] = Decoder(tiny_model).generate(prompt, seeds=[1], sampling=Sampling())
    kept, said, places = [0, 0, 0], [], place_updates()
    for token in fill.tokens:
        kept = [int(new) if new >= 0 else old for new, old in zip(places[token], kept, strict=True)]
        said.append(kept)
    assert said == prompt.fill_coordinates(fill.tokens)[:, :3].tolist()
