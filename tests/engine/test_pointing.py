"""Decoding with copy pointers repeats passages of the song, as closely as `copy_strength` sets."""

from __future__ import annotations

from copy import copy

import pytest
import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.selection import open_batch
from harmonixr_model.errors import ControlError
from harmonixr_model.fill.session import FillSession
from harmonixr_model.infill.copy_gate import FEATURES, CopyGate
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.music.song import Song
from harmonixr_model.music.write import write_midi
from harmonixr_model.prompt.controls import AttributeControls
from harmonixr_model.prompt.copy_pointer import KINDS
from harmonixr_model.prompt.fill_tokens import decode_fill

VERSE, CHORUS = (60, 62, 64, 65), (67, 71, 72, 69)


@pytest.fixture(scope="module")
def pointing(tiny_model):
    """The tiny model with a gate that always believes a guess."""
    model = copy(tiny_model)
    weight_KF = torch.zeros(len(KINDS), len(FEATURES))
    weight_KF[:, FEATURES.index("constant")] = 20.0
    model.copy_gate = CopyGate(weight_KF)
    return model


@pytest.fixture(scope="module")
def song():
    melody, bass = [], []
    for number, section in enumerate((VERSE, CHORUS, VERSE, CHORUS)):
        for bar, root in enumerate(section):
            start = 1920 * (4 * number + bar)
            melody += [Note(start + 480 * beat, 480, root + beat, 82) for beat in range(4)]
            bass.append(Note(start, 1920, root - 24, 82))
    return Song.parse(write_midi(Score(480, (Track(tuple(melody)), Track(tuple(bass), program=33, channel=1)))))


def prompt_of(song, *, controls=None):
    region = Region.bars(song.score, 5, 6, (0,))
    prompt = FillSession(song, region, max_length=700, controls=controls).next_prompt()
    assert prompt is not None
    return prompt


def played(prompt, tokens):
    return [(n.onset % 96, n.pitch) for notes in decode_fill(prompt, tokens) for n in notes]


CHORUS_AGAIN = [(24 * beat, root + beat) for root in CHORUS[1:3] for beat in range(4)]


def test_a_trusted_passage_is_repeated(pointing, song):
    prompt = prompt_of(song)
    for made in Decoder(pointing).generate(prompt, seeds=range(3), sampling=Sampling()):
        assert played(prompt, made.tokens) == CHORUS_AGAIN
        assert made.log_probability > -0.1


def test_the_compiled_library_follows_copy_pointers(pointing, song, library):
    prompt = prompt_of(song)
    batch = open_batch(pointing, rows=1, compiled=True)
    row = Row(prompt, 3, Sampling())
    reading = batch.prefill(prompt)
    try:
        while True:
            next(reading)
    except StopIteration as end:
        batch.join(row, end.value)
    while not row.is_finished:
        batch.step()
    assert played(prompt, row.tokens) == CHORUS_AGAIN


def test_copy_strength_0_uses_the_model_alone(pointing, tiny_model, song):
    prompt = prompt_of(song)
    alone = Decoder(tiny_model).generate(prompt, seeds=range(3), sampling=Sampling())
    assert Decoder(pointing).generate(prompt, seeds=range(3), sampling=Sampling(copy_strength=0)) == alone
    with pytest.raises(ControlError, match="copy strength"):
        Sampling(copy_strength=1.5)


def test_controls_disable_copy_pointers(song):
    assert prompt_of(song).copy_sources
    assert not prompt_of(song, controls=AttributeControls(density=2)).copy_sources
