"""Short calls in the ingress's own process, and cached sessions."""

import asyncio

import pytest

from harmonixr_model import examples
from harmonixr_platform.schemas import ControlSpec, InfillOptions, RegionSpec, SamplingSpec
from harmonixr_platform.serving.infill.session_cache import open_session
from harmonixr_platform.serving.transport.in_process import InProcessCall

MINUET = examples.load("minuet-in-g")
GAP = InfillOptions(region=RegionSpec(bars="5-6", tracks=[1]))


class Remote:
    def __init__(self):
        self.calls = []

    async def __call__(self, stage, method, *args):
        self.calls.append((stage, method))
        return "remote"

    async def stream(self, stage, method, *args):
        yield stage, method


class Local:
    def window(self, midi, *rest):
        return "local"

    def sound(self, midi, *rest):
        raise AssertionError("rendering is not a short call")


def run(call, *args):
    return asyncio.run(call(*args))


@pytest.mark.parametrize(
    ("stage", "method", "size", "place"),
    [
        ("Tokenization", "window", 10, "local"),
        ("Tokenization", "window", 11, "remote"),
        ("Tokenization", "sound", 1, "remote"),
        ("Decoding", "finish", 1, "remote"),
    ],
)
def test_only_short_calls_of_small_files_stay_in_the_process(stage, method, size, place):
    remote = Remote()
    call = InProcessCall(remote, {"Tokenization": Local()}, max_midi_bytes=10)
    assert run(call, stage, method, b"x" * size) == place
    assert len(remote.calls) == (place == "remote")


def test_streams_always_go_to_the_other_process():
    async def first():
        call = InProcessCall(Remote(), {"Model": Local()}, max_midi_bytes=10)
        return [item async for item in call.stream("Model", "stream", b"")]

    assert asyncio.run(first()) == [("Model", "stream")]


def session(options=GAP, done=()):
    return open_session(MINUET, options, max_midi_bytes=1 << 20, max_length=512, done=done)


def test_sessions_of_one_gap_share_a_prompt_and_nothing_else():
    first, second = session(), session(GAP.model_copy(update={"sampling": SamplingSpec(seed=7)}))
    prompt = first.next_prompt()
    assert prompt is second.next_prompt()
    fill = _shortest(prompt)
    first.accept(fill)
    assert (len(first.tokens), len(second.tokens)) == (1, 0)
    assert session().next_prompt() is prompt
    assert first.result().midi == session(done=[fill]).result().midi


@pytest.mark.parametrize(
    "change",
    [{"controls": ControlSpec(pitch_max=60)}, {"region": RegionSpec(bars="7-8", tracks=[1])}],
    ids=["controls", "region"],
)
def test_another_gap_or_other_constraints_have_another_session(change):
    assert session(GAP.model_copy(update=change)).next_prompt() is not session().next_prompt()


def _shortest(prompt):
    from harmonixr_model.grammar.fill_grammar import FillGrammar
    from harmonixr_model.notes.vocabulary import VOCAB

    grammar, tokens = FillGrammar(prompt.tables), []
    while not grammar.finished:
        allowed = grammar.allowed()
        token = VOCAB.id("END") if allowed[VOCAB.id("END")] else int(allowed.nonzero()[0][0])
        grammar.advance(token)
        tokens.append(token)
    return tuple(tokens)
