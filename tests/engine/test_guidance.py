"""Guidance combines a conditional and an unconditional row; a scale of 1 is plain decoding."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import GUIDANCE, Sampling
from harmonixr_model.engine.guidance import apply_guidance, without_controls
from harmonixr_model.engine.scheduler import EngineLimits, EngineLoop
from harmonixr_model.errors import ControlError
from harmonixr_model.fill.session import FillSession
from harmonixr_model.grammar.fill_grammar import check_fill
from harmonixr_model.music.harmony import read_key
from harmonixr_model.music.region import Region
from harmonixr_model.prompt.chords import read_chords
from harmonixr_model.prompt.controls import AttributeControls

WILD = Sampling(temperature=1.5, top_p=1.0)
CONTROLS = AttributeControls(
    density=3, polyphony=2, velocity=90, chords=read_chords("C | Am F"), key_hint=read_key("C"), style="pop"
)


def prompt_of(song, controls):
    region = Region.bars(song.score, 4, 5, (0, 1))
    return FillSession(song, region, max_length=700, controls=controls).next_prompt()


def test_without_controls_equals_a_prompt_without_controls(song):
    plain, expected = without_controls(prompt_of(song, CONTROLS)), prompt_of(song, None)
    np.testing.assert_array_equal(plain.prefix, expected.prefix)
    np.testing.assert_array_equal(plain.coordinates, expected.coordinates)
    assert plain.headers == expected.headers
    assert plain.cells == expected.cells


def test_guidance_scales_from_unconditional_through_conditional():
    conditioned, plain = torch.randn(3, 9), torch.randn(3, 9)
    led = apply_guidance(conditioned, plain, [0.0, 1.0, 2.0])
    a, p = conditioned.log_softmax(-1), plain.log_softmax(-1)
    torch.testing.assert_close(led, torch.stack([p[0], a[1], 2 * a[2] - p[2]]))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_guided_fill_is_the_same_alone_and_in_a_batch(tiny_model, song, compiled):
    """Beside others with and without controls, guided or not, in the library's engine and in the service's."""
    jobs = [
        (prompt_of(song, CONTROLS), 1),
        (prompt_of(song, None), 2),
        (prompt_of(song, AttributeControls(density=2)), 3),
    ]
    decoder = Decoder(tiny_model, compiled=compiled)
    together = decoder.generate_each([*jobs, *jobs], sampling=WILD)
    alone = [decoder.generate_each([job], sampling=WILD)[0] for job in jobs]
    assert [fill.tokens for fill in together] == [fill.tokens for fill in [*alone, *alone]]
    # Two readers at most: guided candidates go one after the other, and the plain one between them.
    loop = EngineLoop.open(tiny_model, limits=EngineLimits(rows=2), compiled=compiled)
    handles = [loop.submit(prompt, [seed], WILD) for prompt, seed in jobs]
    while not all(handle.has_ended for handle in handles):
        loop.turn()
    assert [handle.result()[0].tokens for handle in handles] == [fill.tokens for fill in alone]


def test_controls_are_guided_by_default(tiny_model, song):
    prompt, decoder = prompt_of(song, CONTROLS), Decoder(tiny_model)
    left_out, given, by_itself = (
        [fill.tokens for fill in decoder.generate(prompt, seeds=range(4), sampling=replace(WILD, guidance=guidance))]
        for guidance in (None, GUIDANCE, 1.0)
    )
    assert left_out == given != by_itself


def test_a_longer_header_is_fed_in_step_with_the_unconditional_one(tiny_model, song, monkeypatch):
    prompt, decoder = prompt_of(song, CONTROLS), Decoder(tiny_model)
    whole = decoder.generate(prompt, seeds=range(4), sampling=WILD)
    for module in ("batch", "guidance"):
        monkeypatch.setattr(f"harmonixr_model.engine.{module}.MAX_CHUNK", 2)
    assert [f.tokens for f in decoder.generate(prompt, seeds=range(4), sampling=WILD)] == [f.tokens for f in whole]


def test_guidance_changes_fills_and_follows_the_grammar(tiny_model, song):
    prompt = prompt_of(song, CONTROLS)
    decoder = Decoder(tiny_model)
    plain = decoder.generate(prompt, seeds=[1, 2], sampling=replace(WILD, guidance=1.0))
    guided = decoder.generate(prompt, seeds=[1, 2], sampling=Sampling(temperature=1.5, top_p=1.0, guidance=3.0))
    assert [fill.tokens for fill in guided] != [fill.tokens for fill in plain]
    for fill in guided:
        check_fill(prompt.tables, fill.tokens)


def test_guidance_without_controls_is_refused(tiny_model, song):
    with pytest.raises(ControlError, match="has none"):
        Decoder(tiny_model).generate(prompt_of(song, None), seeds=[1], sampling=Sampling(guidance=2.0))
    with pytest.raises(ControlError, match="0 to 10"):
        Sampling(guidance=-1)
