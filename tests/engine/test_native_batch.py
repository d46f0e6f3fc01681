"""NativeBatch decodes the same tokens as PythonBatch, however rows join and leave."""

import pytest
import torch

from harmonixr_model.engine.batch import PythonBatch
from harmonixr_model.engine.decoder import Decoder, run_prefill
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


def run(batch, rows, *, max_tokens):
    """Step until all rows are finished; a row joins every second call. Return the cells reported for each."""
    reported = {row: [] for row in rows}
    coming = list(rows)
    calls = 0
    while coming or batch.rows:
        if coming and calls % 2 == 0:
            row = coming.pop(0)
            batch.join(row, run_prefill(batch.prefill(row.prompt)))
        calls += 1
        for row in batch.step(max_tokens=max_tokens):
            reported[row] += [row.cell_tokens(cell) for cell in range(row.reported_cells, row.cell)]
            row.reported_cells = row.cell
    return [reported[row] for row in rows]


@pytest.mark.parametrize("max_tokens", [1, 4])
def test_native_rows_equal_python_rows(library, runner, gate, prompt_of, max_tokens):
    prompts = [prompt_of(), prompt_of(bars=(9, 10), tracks=(2, 3))]
    rows, same = ([Row(prompts[i % 2], i, SAMPLINGS[i % 4]) for i in range(8)] for _ in range(2))
    reported = run(NativeBatch(runner, library, gate=gate), rows, max_tokens=max_tokens)
    assert reported == run(PythonBatch(runner, NativeSampler(library, gate=gate)), same, max_tokens=1)
    for row, other in zip(rows, same, strict=True):
        assert row.is_finished
        assert row.output == other.output


def test_a_row_that_leaves_does_not_change_the_others(library, runner, prompt_of):
    prompt = prompt_of()
    batch = NativeBatch(runner, library)
    rows = [Row(prompt, seed, Sampling()) for seed in range(3)]
    for row in rows:
        batch.join(row, run_prefill(batch.prefill(prompt)))
    batch.step(max_tokens=5)
    batch.leave(rows[0])
    while batch.rows:
        batch.step(max_tokens=3)
    for row in rows[1:]:
        [alone] = [Row(prompt, row.seed, Sampling())]
        run(NativeBatch(runner, library), [alone], max_tokens=1)
        assert row.output == alone.output


def test_fills_with_and_without_controls_are_the_same_in_one_batch(library, tiny_model, prompt_of):
    prompts = [prompt_of(), prompt_of(controls=AttributeControls(density=2))]
    assert [prompt.is_conditional for prompt in prompts] == [False, True]
    jobs = [(prompts[i % 2], i) for i in range(6)]
    decoder = Decoder(tiny_model, compiled=True)
    together = decoder.generate_each(jobs, sampling=Sampling())
    assert together == [decoder.generate(p, seeds=[s], sampling=Sampling())[0] for p, s in jobs]


def test_a_listener_receives_every_cell_before_more_is_sampled(library, tiny_model, prompt_of):
    loop = EngineLoop.open(tiny_model)
    handle, counts = loop.submit(prompt_of(), (1,), Sampling()), []
    handle.listen(lambda event: counts.append(loop.stats().steps))
    while not handle.has_ended:
        loop.turn()
    streamed = loop.stats().steps
    again = loop.submit(prompt_of(), (1,), Sampling())
    while not again.has_ended:
        loop.turn()
    assert handle.result() == again.result()
    assert loop.stats().steps - streamed < streamed / 2
    assert len(set(counts)) > 2


def test_places_are_those_of_coordinates(library, tiny_model, prompt_of):
    prompt = prompt_of()
    [fill] = Decoder(tiny_model).generate(prompt, seeds=[1], sampling=Sampling())
    last, found, places = [0, 0, 0], [], place_updates()
    for token in fill.tokens:
        last = [int(new) if new >= 0 else old for new, old in zip(places[token], last, strict=True)]
        found.append(last)
    assert found == prompt.fill_coordinates(fill.tokens)[:, :3].tolist()
