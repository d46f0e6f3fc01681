"""Guidance: two readings of one prompt, combined; the same as plain decoding where nothing is added."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import GUIDANCE, Sampling
from harmonixr_model.engine.guidance import lean, without_controls
from harmonixr_model.engine.scheduler import EngineLimits, EngineLoop
from harmonixr_model.errors import ControlError
from harmonixr_model.fill.session import FillSession
from harmonixr_model.grammar.fill_grammar import check_fill
from harmonixr_model.music.harmony import read_key
from harmonixr_model.music.region import Region
from harmonixr_model.prompt.controls import AttributeControls, read_chords

WILD = Sampling(temperature=1.5, top_p=1.0)
ASKED = AttributeControls(
    density=3, polyphony=2, velocity=90, chords=read_chords("C | Am F"), key=read_key("C"), style="pop"
)


def prompt_of(song, controls):
    region = Region.bars(song.score, 4, 5, (0, 1))
    return FillSession(song, region, max_length=700, controls=controls).next_prompt()


def test_a_prompt_less_its_controls_is_the_prompt_that_asks_nothing(song):
    plain, expected = without_controls(prompt_of(song, ASKED)), prompt_of(song, None)
    np.testing.assert_array_equal(plain.prefix, expected.prefix)
    np.testing.assert_array_equal(plain.coordinates, expected.coordinates)
    assert plain.headers == expected.headers
    assert plain.cells == expected.cells


def test_guidance_leads_from_what_is_said_unasked_through_what_is_said_asked():
    asked, plain = torch.randn(3, 9), torch.randn(3, 9)
    led = lean(asked, plain, [0.0, 1.0, 2.0])
    a, p = asked.log_softmax(-1), plain.log_softmax(-1)
    torch.testing.assert_close(led, torch.stack([p[0], a[1], 2 * a[2] - p[2]]))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_guided_fill_is_the_same_alone_and_beside_others(tiny_model, song, compiled):
    """Beside others with and without controls, guided or not, in the library's engine and in the service's."""
    jobs = [(prompt_of(song, ASKED), 1), (prompt_of(song, None), 2), (prompt_of(song, AttributeControls(density=2)), 3)]
    decoder = Decoder(tiny_model, compiled=compiled)
    together = decoder.generate_each([*jobs, *jobs], sampling=WILD)
    alone = [decoder.generate_each([job], sampling=WILD)[0] for job in jobs]
    assert [fill.tokens for fill in together] == [fill.tokens for fill in [*alone, *alone]]
    # Two readers at most: guided candidates go one after the other, and the plain one between them.
    loop = EngineLoop.open(tiny_model, limits=EngineLimits(rows=2), compiled=compiled)
    tickets = [loop.submit(prompt, [seed], WILD) for prompt, seed in jobs]
    while not all(ticket.is_over for ticket in tickets):
        loop.turn()
    assert [ticket.result()[0].tokens for ticket in tickets] == [fill.tokens for fill in alone]


def test_controls_are_leant_towards_unless_told_otherwise(tiny_model, song):
    prompt, decoder = prompt_of(song, ASKED), Decoder(tiny_model)
    left_out, given, by_itself = (
        [fill.tokens for fill in decoder.generate(prompt, seeds=range(4), sampling=replace(WILD, guidance=guidance))]
        for guidance in (None, GUIDANCE, 1.0)
    )
    assert left_out == given != by_itself


def test_a_longer_header_is_read_in_step_with_the_one_that_asks_nothing(tiny_model, song, monkeypatch):
    prompt, decoder = prompt_of(song, ASKED), Decoder(tiny_model)
    whole = decoder.generate(prompt, seeds=range(4), sampling=WILD)
    for module in ("batch", "guidance"):
        monkeypatch.setattr(f"harmonixr_model.engine.{module}.MAX_CHUNK", 2)
    assert [f.tokens for f in decoder.generate(prompt, seeds=range(4), sampling=WILD)] == [f.tokens for f in whole]


def test_guidance_changes_fills_and_keeps_the_grammar(tiny_model, song):
    prompt = prompt_of(song, ASKED)
    decoder = Decoder(tiny_model)
    plain = decoder.generate(prompt, seeds=[1, 2], sampling=replace(WILD, guidance=1.0))
    guided = decoder.generate(prompt, seeds=[1, 2], sampling=Sampling(temperature=1.5, top_p=1.0, guidance=3.0))
    assert [fill.tokens for fill in guided] != [fill.tokens for fill in plain]
    for fill in guided:
        check_fill(prompt.tables, fill.tokens)


def test_guidance_towards_nothing_is_refused(tiny_model, song):
    with pytest.raises(ControlError, match="none is asked"):
        Decoder(tiny_model).generate(prompt_of(song, None), seeds=[1], sampling=Sampling(guidance=2.0))
    with pytest.raises(ControlError, match="0 to 10"):
        Sampling(guidance=-1)
