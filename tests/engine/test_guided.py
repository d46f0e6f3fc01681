"""Guidance: two readings of one prompt, combined; the same as plain decoding where nothing is added."""

import numpy as np
import pytest

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.engine.guided import generate_guided, without_controls
from harmonixr_model.errors import ControlError
from harmonixr_model.music.harmony import read_key
from harmonixr_model.music.region import Region
from harmonixr_model.session import FillSession
from harmonixr_model.tokens.controls import SoftControls, read_chords
from harmonixr_model.tokens.grammar import check_fill

WILD = Sampling(temperature=1.5, top_p=1.0)
ASKED = SoftControls(
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


def test_guidance_of_one_gives_what_plain_decoding_gives(tiny_model, song):
    prompt = prompt_of(song, ASKED)
    seeds = range(7)
    plain = Decoder(tiny_model).generate(prompt, seeds=seeds, sampling=WILD)
    # Five candidates at a time, which end at different moments.
    guided = generate_guided(tiny_model, [(prompt, seed) for seed in seeds], sampling=WILD, rows=5)
    assert [fill.tokens for fill in guided] == [fill.tokens for fill in plain]
    for one, two in zip(guided, plain, strict=True):
        assert one.log_probability == pytest.approx(two.log_probability, rel=1e-3)


def test_guidance_changes_fills_and_keeps_the_grammar(tiny_model, song):
    prompt = prompt_of(song, ASKED)
    decoder = Decoder(tiny_model)
    plain = decoder.generate(prompt, seeds=[1, 2], sampling=WILD)
    guided = decoder.generate(prompt, seeds=[1, 2], sampling=Sampling(temperature=1.5, top_p=1.0, guidance=3.0))
    assert [fill.tokens for fill in guided] != [fill.tokens for fill in plain]
    for fill in guided:
        check_fill(prompt, fill.tokens)


def test_guidance_towards_nothing_is_refused(tiny_model, song):
    with pytest.raises(ControlError, match="none is asked"):
        Decoder(tiny_model).generate(prompt_of(song, None), seeds=[1], sampling=Sampling(guidance=2.0))
    with pytest.raises(ControlError, match="0 to 10"):
        Sampling(guidance=-1)
