"""What an ingress answers itself, and what a remembered session may not change."""

import asyncio

import pytest

from harmonixr_model import examples
from harmonixr_platform.schemas import ControlSpec, InfillOptions, RegionSpec, SamplingSpec
from harmonixr_platform.serving.infill.sessions import open_session
from harmonixr_platform.serving.transport.in_process import InProcessCall

MINUET = examples.load("minuet-in-g")
GAP = InfillOptions(region=RegionSpec(bars="5-6", tracks=[1]))


class Far:
    def __init__(self):
        self.asked = []

    async def __call__(self, stage, method, *args):
        self.asked.append((stage, method))
        return "far"

    async def stream(self, stage, method, *args):
        yield stage, method


class Near:
    def window(self, midi, *rest):
        return "near"

    def sound(self, midi, *rest):
        raise AssertionError("rendering is no short call")


def ask(call, *args):
    return asyncio.run(call(*args))


@pytest.mark.parametrize(
    ("stage", "method", "size", "who"),
    [
        ("Tokenization", "window", 10, "near"),
        ("Tokenization", "window", 11, "far"),
        ("Tokenization", "sound", 1, "far"),
        ("Decoding", "finish", 1, "far"),
    ],
)
def test_only_short_calls_of_small_files_to_a_near_stage_stay_in_the_process(stage, method, size, who):
    far = Far()
    call = InProcessCall(far, {"Tokenization": Near()}, max_midi_bytes=10)
    assert ask(call, stage, method, b"x" * size) == who
    assert len(far.asked) == (who == "far")


def test_streams_are_always_carried_on():
    async def first():
        call = InProcessCall(Far(), {"Model": Near()}, max_midi_bytes=10)
        return [item async for item in call.stream("Model", "stream", b"")]

    assert asyncio.run(first()) == [("Model", "stream")]


def session(options=GAP, done=()):
    return open_session(MINUET, options, max_midi_bytes=1 << 20, max_length=512, done=done)


def test_sessions_of_one_gap_share_a_prompt_and_go_on_apart():
    first, second = session(), session(GAP.model_copy(update={"sampling": SamplingSpec(seed=7)}))
    prompt = first.next_prompt()
    assert prompt is second.next_prompt()
    answer = _shortest(prompt)
    first.accept(answer)
    assert (len(first.tokens), len(second.tokens)) == (1, 0)
    assert session().next_prompt() is prompt
    assert first.result().midi == session(done=[answer]).result().midi


@pytest.mark.parametrize(
    "change",
    [{"controls": ControlSpec(pitch_max=60)}, {"region": RegionSpec(bars="7-8", tracks=[1])}],
    ids=["controls", "region"],
)
def test_another_gap_or_other_limits_are_another_session(change):
    assert session(GAP.model_copy(update=change)).next_prompt() is not session().next_prompt()


def _shortest(prompt):
    from harmonixr_model.grammar.fill_grammar import FillGrammar
    from harmonixr_model.notes.vocabulary import VOCAB

    grammar, said = FillGrammar(prompt.tables), []
    while not grammar.finished:
        allowed = grammar.allowed()
        token = VOCAB.id("END") if allowed[VOCAB.id("END")] else int(allowed.nonzero()[0][0])
        grammar.advance(token)
        said.append(token)
    return tuple(said)
