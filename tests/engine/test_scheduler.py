"""EngineLoop: fills as if alone, first come first served within limits, and no request fails another."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest

from harmonixr_model.engine.batch import PythonBatch
from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.engine.native.sampler import NativeSampler
from harmonixr_model.engine.request import CandidateFinished, CellFinished, Failed, Finished, notes_of
from harmonixr_model.engine.runner import TorchRunner
from harmonixr_model.engine.sampler import TorchSampler
from harmonixr_model.engine.scheduler import EngineLimits, EngineLoop
from harmonixr_model.engine.selection import open_batch
from harmonixr_model.errors import DeadlinePassed, EngineBusy, FillCancelled, PromptError
from harmonixr_model.prompt.fill_tokens import decode_fill

PLAIN = Sampling()


@pytest.fixture
def open_loop(tiny_model):
    def make(**limits):
        limits = EngineLimits(**limits)
        runner = TorchRunner(tiny_model, rows=limits.rows, length=tiny_model.config.max_length)
        return EngineLoop(PythonBatch(runner, TorchSampler()), max_length=tiny_model.config.max_length, limits=limits)

    return make


@pytest.fixture(scope="module")
def short(prompt_of):
    return prompt_of(bars=(4, 4), tracks=(2,))


def run_out(loop, *handles, turns=3000):
    for _ in range(turns):
        if all(handle.has_ended for handle in handles):
            return
        loop.turn()
    pytest.fail("the requests did not end")


def events_of(handle):
    heard = []
    handle.listen(heard.append)
    return heard


def test_requests_with_other_prompts_and_settings_get_the_fills_they_get_alone(open_loop, tiny_model, prompt_of):
    requests = [
        (prompt_of(), (1, 2, 3), PLAIN),
        (prompt_of(bars=(9, 9), tracks=(2, 3)), (4,), Sampling(temperature=0)),
        (prompt_of(bars=(0, 1)), (5, 6), Sampling(temperature=1.3, top_k=9, top_p=1.0)),
    ]
    loop = open_loop(rows=4)
    handles = []
    for prompt, seeds, sampling in requests:
        handles.append(loop.submit(prompt, seeds, sampling))
        loop.turn()
    run_out(loop, *handles)
    decoder = Decoder(tiny_model)
    for handle, (prompt, seeds, sampling) in zip(handles, requests, strict=True):
        alone = [decoder.generate(prompt, seeds=[seed], sampling=sampling)[0].tokens for seed in seeds]
        assert [generated.tokens for generated in handle.result()] == alone


@pytest.mark.parametrize("is_compiled", [False, True], ids=["fp32", "bf16"])
def test_a_thousand_seeds_give_the_same_fill_alone_and_in_a_full_batch(tiny_model, prompt_of, library, is_compiled):
    prompt = prompt_of(bars=(4, 4), tracks=(2,))
    prompt = replace(prompt, tables=replace(prompt.tables, max_tokens=16))
    length = len(prompt.prefix) + 16
    seeds = range(1000)
    answers = []
    for rows, batch_seeds in ((32, seeds), (3, seeds[::3]), (1, seeds if is_compiled else seeds[::20])):
        if is_compiled:
            batch = open_batch(tiny_model, rows=rows, compiled=True)
        else:
            batch = PythonBatch(TorchRunner(tiny_model, rows=rows, length=length), NativeSampler(library))
        loop = EngineLoop(batch, max_length=tiny_model.config.max_length, limits=EngineLimits(rows=rows))
        handle = loop.submit(prompt, batch_seeds, PLAIN)
        run_out(loop, handle, turns=20_000)
        answers.append({seed: fill.tokens for seed, fill in zip(batch_seeds, handle.result(), strict=True)})
    together = answers[0]
    assert all(others[seed] == together[seed] for others in answers for seed in others)
    assert len(set(together.values())) > 500


def test_every_cell_is_emitted_when_finished_with_the_notes_of_the_fill(open_loop, prompt_of):
    prompt = prompt_of()
    loop = open_loop()
    handle = loop.submit(prompt, (1, 2), PLAIN)
    heard = events_of(handle)
    run_out(loop, handle)
    assert isinstance(heard[-1], Finished)
    for candidate, generated in enumerate(handle.result()):
        own = [e for e in heard if isinstance(e, CellFinished | CandidateFinished) and e.candidate == candidate]
        cells, [finished] = own[:-1], own[-1:]
        assert finished == CandidateFinished(candidate, generated)
        assert [cell.cell for cell in cells] == list(range(len(prompt.cells)))
        assert [notes_of(prompt, cell) for cell in cells] == decode_fill(prompt, generated.tokens)


def test_a_cancelled_request_frees_its_rows_within_a_turn_and_others_stay_unchanged(open_loop, tiny_model, prompt_of):
    prompt = prompt_of()
    loop = open_loop()
    given_up, kept = loop.submit(prompt, (1, 2), PLAIN), loop.submit(prompt, (3, 4), PLAIN)
    for _ in range(12):
        loop.turn()
    assert loop.stats().running == 4
    given_up.cancel()
    loop.turn()
    assert loop.stats().running == 2
    with pytest.raises(FillCancelled):
        given_up.result(0)
    run_out(loop, kept)
    alone = Decoder(tiny_model).generate(prompt, seeds=(3, 4), sampling=PLAIN)
    assert [g.tokens for g in kept.result()] == [g.tokens for g in alone]
    assert loop.stats().held_tokens == 0


def test_a_deadline_that_passes_fails_its_request_alone(open_loop, prompt_of, short):
    loop = open_loop()
    late = loop.submit(prompt_of(), (1,), PLAIN, deadline=time.monotonic() + 0.01)
    waiting = loop.submit(short, (1,), PLAIN, deadline=time.monotonic() - 1)
    other = loop.submit(short, (2,), PLAIN, deadline=time.monotonic() + 1000)
    loop.turn()
    time.sleep(0.02)
    run_out(loop, late, waiting, other)
    for handle in (late, waiting):
        with pytest.raises(DeadlinePassed, match="choose a smaller region"):
            handle.result()
    assert len(other.result()) == 1


def test_the_oldest_request_is_served_first_and_none_overtakes_it(open_loop, short):
    loop = open_loop(rows=2)
    first, second = loop.submit(short, range(4), PLAIN), loop.submit(short, range(4), PLAIN)
    order = []
    for name, handle in (("first", first), ("second", second)):
        handle.listen(lambda e, name=name: order.append(name) if isinstance(e, CandidateFinished) else None)
    run_out(loop, first, second)
    assert order.index("second") >= 3  # the last of the first may end beside the second's first
    assert sorted(order) == ["first"] * 4 + ["second"] * 4


def test_a_greedy_owner_cannot_starve_another(open_loop, prompt_of, short):
    loop = open_loop(rows=4, owner_rows=3)
    greedy = loop.submit(prompt_of(), range(40), PLAIN, owner="greedy")
    modest = loop.submit(short, (1,), PLAIN, owner="modest")
    run_out(loop, modest)
    assert not greedy.has_ended
    assert loop.stats().running == 3
    greedy.cancel()


def test_a_full_queue_refuses_and_accepts_again_once_empty(open_loop, short):
    size = len(short.prefix) + short.tables.max_tokens
    loop = open_loop(rows=1, waiting_tokens=2 * size, owner_waiting_tokens=size)
    taken = [loop.submit(short, (seed,), PLAIN, owner="one" if seed == 0 else "") for seed in range(2)]
    with pytest.raises(EngineBusy, match="try again"):
        loop.submit(short, (9,), PLAIN)
    run_out(loop, *taken)
    first = loop.submit(short, (0,), PLAIN, owner="one")
    with pytest.raises(EngineBusy, match="your requests"):
        loop.submit(short, (9,), PLAIN, owner="one")
    run_out(loop, first)


def test_the_cache_never_holds_more_than_its_budget(open_loop, prompt_of):
    prompt = prompt_of()
    budget = len(prompt.prefix) + 2 * prompt.tables.max_tokens
    loop = open_loop(tokens=budget)
    handle = loop.submit(prompt, range(5), PLAIN)
    most = 0
    while not handle.has_ended:
        loop.turn()
        assert loop.stats().held_tokens <= budget
        most = max(most, loop.stats().running)
    assert most == 2


def test_running_rows_wait_for_one_layer_of_a_prefix_at_most(open_loop, prompt_of, tiny_model, short):
    loop = open_loop()
    running = loop.submit(prompt_of(), (1,), PLAIN)
    loop.turn()
    loop.submit(short, (1,), PLAIN)
    layers = tiny_model.config.layers
    for turn in range(layers + 1):
        steps = loop.stats().steps
        assert loop.stats().running == 1
        loop.turn()
        assert loop.stats().steps == steps + 1
        assert loop.stats().prefilling == (1 if turn < layers else 0)
    assert loop.stats().running == 2
    assert not running.has_ended


def test_a_prompt_longer_than_the_model_is_refused_at_once(open_loop, prompt_of):
    with pytest.raises(PromptError, match="choose a smaller region"):
        open_loop().submit(prompt_of(max_length=1200), (1,), PLAIN)


def test_a_failing_step_fails_the_running_requests_and_the_loop_continues(open_loop, short, monkeypatch):
    loop = open_loop()
    doomed = loop.submit(short, (1, 2), PLAIN)
    for _ in range(4):
        loop.turn()
    with monkeypatch.context() as patch:
        patch.setattr(TorchRunner, "feed", lambda *_: 1 / 0)
        loop.turn()
    with pytest.raises(ZeroDivisionError):
        doomed.result(0)
    after = loop.submit(short, (1,), PLAIN)
    run_out(loop, after)
    assert len(after.result()) == 1
    assert loop.stats().failures == 1


def test_a_candidate_that_cannot_start_fails_only_its_request(open_loop, short):
    loop = open_loop()
    impossible = loop.submit(short, (1, 1 << 70), PLAIN)
    other = loop.submit(short, (2,), PLAIN)
    run_out(loop, impossible, other)
    with pytest.raises((RuntimeError, ValueError), match="Overflow"):
        impossible.result()
    assert len(other.result()) == 1
    assert loop.stats().held_tokens == 0


def test_a_listener_that_raises_is_removed_and_the_fill_completes(open_loop, short):
    loop = open_loop()
    handle = loop.submit(short, (1,), PLAIN)
    handle.listen(lambda event: 1 / 0)
    run_out(loop, handle)
    assert len(handle.result()) == 1


def test_many_threads_share_one_loop_and_closing_finishes_accepted_requests(open_loop, short):
    loop = open_loop(rows=4)
    thread = loop.start()
    answers = {}

    def ask(seed):
        answers[seed] = loop.generate(short, seeds=[seed], sampling=PLAIN)[0].tokens

    askers = [threading.Thread(target=ask, args=(seed % 3,)) for seed in range(9)]
    for asker in askers:
        asker.start()
    last = loop.submit(short, range(6), PLAIN)
    loop.close()
    thread.join(60)
    assert not thread.is_alive()
    assert len(last.result(0)) == 6
    for asker in askers:
        asker.join(60)
    for seed, tokens in answers.items():
        assert last.result()[seed].tokens == tokens
    with pytest.raises(EngineBusy, match="closing"):
        loop.submit(short, (1,), PLAIN)


def test_closing_without_draining_cancels_running_requests(open_loop, prompt_of):
    loop = open_loop()
    handle = loop.submit(prompt_of(), range(32), PLAIN)
    thread = loop.start()
    loop.close(drain=False)
    thread.join(60)
    with pytest.raises(FillCancelled, match="closed"):
        handle.result(0)


def test_an_event_loop_receives_every_event_and_a_cancelled_waiter_cancels_its_request(open_loop, prompt_of, short):
    loop = open_loop()
    thread = loop.start()

    async def talk():
        handle = loop.submit(short, (1,), PLAIN)
        heard = [event async for event in handle.events()]
        waiter = asyncio.create_task(loop.submit(prompt_of(), range(8), PLAIN).wait())
        await asyncio.sleep(0.05)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        whole = await loop.submit(short, (1,), PLAIN).wait()
        return heard, whole

    heard, whole = asyncio.run(talk())
    loop.close()
    thread.join(60)
    assert [type(event) for event in heard] == [CellFinished, CandidateFinished, Finished]
    assert heard[1].generated == whole[0]
    assert loop.stats().failures == 1


def test_failure_is_an_event(open_loop, short):
    loop = open_loop()
    handle = loop.submit(short, (1,), PLAIN)
    handle.cancel()
    loop.turn()
    [failed] = events_of(handle)
    assert isinstance(failed, Failed)


def test_a_repeated_prompt_is_not_prefilled_again_and_gives_the_same_fill(open_loop, prompt_of):
    loop = open_loop(rows=4)
    first = loop.submit(prompt_of(), (1,), PLAIN)
    run_out(loop, first)
    read = loop.stats().prefilled_tokens
    again = loop.submit(prompt_of(), (1, 2), Sampling(temperature=0.5))
    same = loop.submit(prompt_of(), (1,), PLAIN)
    run_out(loop, again, same)
    assert read == len(prompt_of().prefix) == loop.stats().prefilled_tokens
    assert same.result()[0].tokens == first.result()[0].tokens


def test_the_prefix_cache_has_a_bound_and_holds_the_last_used(open_loop, prompt_of):
    ours, other, third = prompt_of(), prompt_of(bars=(9, 9), tracks=(2, 3)), prompt_of(bars=(0, 1))
    loop = open_loop(prefix_cache_tokens=len(ours.prefix) + max(len(other.prefix), len(third.prefix)))
    for prompt in (ours, other, ours, third):
        run_out(loop, loop.submit(prompt, (0,), PLAIN))
    read = loop.stats().prefilled_tokens
    assert read == sum(len(prompt.prefix) for prompt in (ours, other, third))
    run_out(loop, loop.submit(ours, (1,), PLAIN))
    assert loop.stats().prefilled_tokens == read
    run_out(loop, loop.submit(other, (1,), PLAIN))
    assert loop.stats().prefilled_tokens == read + len(other.prefix)


def test_without_a_prefix_cache_every_prompt_is_prefilled(open_loop, short):
    loop = open_loop(prefix_cache_tokens=0)
    for seed in (1, 2):
        run_out(loop, loop.submit(short, (seed,), PLAIN))
    assert loop.stats().prefilled_tokens == 2 * len(short.prefix)
