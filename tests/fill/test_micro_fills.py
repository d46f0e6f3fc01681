"""Fills by a model that says how far notes are from the grid: on the ticks that it says, and nothing else disturbed."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.errors import CheckpointError
from harmonixr_model.fill.infiller import Infiller
from harmonixr_model.fill.session import FillSession
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.music.song import Song
from harmonixr_model.music.write import write_midi
from harmonixr_model.notes.grid import GRID, to_step
from harmonixr_model.notes.vocabulary import VOCAB

torch.set_num_threads(1)
WILD = Sampling(temperature=2.0, top_p=1.0)
TPQ = 480


def drummed(seed: int) -> Song:
    """Return eight bars of hats, kick and snare a little before and after the beat."""
    rng = np.random.default_rng(seed)
    notes = []
    for eighth in range(64):
        for pitch in (42, 38 if eighth % 4 == 2 else 36)[: 1 + (eighth % 2 == 0)]:
            onset = max(0, eighth * TPQ // 2 + round(rng.normal(0, 12)))
            notes.append(Note(onset, 40, pitch, int(rng.integers(40, 110))))
    bass = [Note(TPQ * beat + int(rng.integers(0, 15)), 200, 40, 80) for beat in range(32)]
    tracks = (Track((), 0, True, "drums", 9).with_notes(notes), Track((), 33, False, "bass", 0).with_notes(bass))
    return Song.parse(write_midi(Score(TPQ, tracks)))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = InfillTransformer(InfillConfig(width=16, layers=1, heads=1, dropout=0.0, max_length=900, micro=True))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.fixture(scope="module")
def infiller(model):
    return Infiller(Decoder(model), max_length=900, micro=True)


@pytest.mark.parametrize("seed", range(6))
def test_notes_come_back_at_the_ticks_their_tokens_say_inside_the_region_and_clear_of_others(infiller, seed):
    song = drummed(seed)
    region = Region.bars(song.score, 2, 4)
    fill = infiller.fill(song, region, seed=seed, sampling=WILD)[0]
    assert fill.dropped == 0
    assert any(note.onset * GRID % TPQ for notes in fill.notes.values() for note in notes)
    after = Song.parse(fill.midi).score
    for track, notes in fill.notes.items():
        assert all(region.contains(track, note) for note in notes)
        kept = Counter(n for n in after.tracks[track].notes if region.contains(track, n))
        assert kept == Counter(notes)
        for pitch in {note.pitch for note in notes}:
            line = sorted(n for n in after.tracks[track].notes if n.pitch == pitch)
            assert all(one.end <= two.onset for one, two in pairwise(line))
    for track, was in enumerate(song.score.tracks):
        outside = [n for n in was.notes if not region.contains(track, n)]
        assert outside == [n for n in after.tracks[track].notes if not region.contains(track, n)]
    again = infiller.replay(song, region, fill.tokens)
    assert again.midi == fill.midi
    said = [note for notes in fill.notes.values() for note in notes if note.onset != 0]
    offsets = sum(token in VOCAB.micro for window in fill.tokens for token in window)
    off_grid = sum((n.onset - to_step(n.onset, TPQ) * TPQ // GRID) != 0 for n in said)
    assert off_grid <= offsets


def test_the_context_says_how_the_drummer_played_and_only_where_it_is_asked_for():
    song = drummed(1)
    region = Region.bars(song.score, 2, 3)
    with_micro, without = (
        FillSession(song, region, max_length=900, micro=micro).next_prompt() for micro in (True, False)
    )
    micro = [token for token in with_micro.prefix if token in VOCAB.micro]
    assert len(set(micro)) > 5
    assert not [token for token in without.prefix if token in VOCAB.micro]
    assert with_micro.rules.says_micro
    assert not without.rules.says_micro


def test_a_checkpoint_remembers_that_it_speaks_of_the_grid(model, tmp_path):
    save_checkpoint(tmp_path / "micro.safetensors", model, info={})
    assert load_checkpoint(tmp_path / "micro.safetensors")[0].config.micro
    assert Infiller.load(tmp_path / "micro.safetensors").micro
    plain = InfillTransformer(replace(model.config, micro=False))
    assert "micro" not in plain.config.to_dict()
    save_checkpoint(tmp_path / "plain.safetensors", plain, info={})
    assert not Infiller.load(tmp_path / "plain.safetensors").micro


def test_the_service_refuses_what_it_would_not_ask_for(model, tmp_path):
    from harmonixr_platform.serving.arguments import ServingArgs
    from harmonixr_platform.serving.stages.loading import load_engine

    save_checkpoint(tmp_path / "micro.safetensors", model, info={})
    with pytest.raises(CheckpointError, match="trained without micro"):
        load_engine(tmp_path / "micro.safetensors", ServingArgs())
