"""Attribute controls of a whole fill: encoded in every cell, refused if unsupported, kept if enforced."""

import pytest
import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.errors import ControlError
from harmonixr_model.fill.infiller import Infiller
from harmonixr_model.fill.session import FillSession
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_model.notes.vocabulary import COMPOSERS, VOCAB
from harmonixr_model.prompt.chords import read_chords
from harmonixr_model.prompt.controls import TRAINED, AttributeControls

torch.set_num_threads(1)
WILD = Sampling(temperature=2.0, top_p=1.0)
TRAINED_ON_ALL = {"controls": list(TRAINED)}


@pytest.fixture(scope="module")
def infiller():
    torch.manual_seed(0)
    model = InfillTransformer(InfillConfig(width=16, layers=1, heads=1, dropout=0.0, max_length=900))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return Infiller(Decoder(model), max_length=900, info=TRAINED_ON_ALL)


@pytest.fixture(scope="module")
def song():
    return Song.parse(compose_song(3, bars=16))


def names(tokens) -> list[str]:
    return [VOCAB.name(int(token)) for token in tokens]


def test_every_cell_encodes_the_controls_and_drums_get_no_chords(song):
    region = Region.bars(song.score, 4, 5, [0, 3])
    controls = AttributeControls(density=2, velocity=84, chords=read_chords("C Am | F"), style="pop", composer="Bach")
    prompt = FillSession(song, region, max_length=2000, controls=controls).next_prompt()
    half = song.score.bars[4].end - song.score.bars[4].start
    steps = half * 24 // song.score.ticks_per_quarter // 2
    said = [names(header[3:]) for header in prompt.headers]
    loud = ["STYLE_0", f"COMPOSER_{COMPOSERS.index('Bach')}", "DENSITY_7", "VELRANGE_10"]
    assert said[0][:7] == [*loud, "CHORD_C_maj", f"POS_{steps}", "CHORD_A_min"]
    assert said[1][:4] == loud
    assert not any(name.startswith("CHORD") for name in said[1])
    assert said[2][:5] == [*loud, "CHORD_F_maj"]


def test_a_controlled_fill_is_made_and_made_again_from_its_tokens(infiller, song):
    region = Region.bars(song.score, 4, 7, [0, 1])
    controls = AttributeControls(density=3, polyphony=2)
    fill = infiller.fill(song, region, controls=controls, seed=5, sampling=WILD)[0]
    assert infiller.replay(song, region, fill.tokens, controls=controls).midi == fill.midi


def test_chord_tones_alone_are_kept_by_any_model(infiller, song):
    region = Region.bars(song.score, 4, 5, [0])
    controls = AttributeControls(chords=read_chords("C Am | F"), chord_tones_only=True)
    bars = song.score.bars
    middle = (bars[4].start + bars[4].end) // 2
    for seed in range(4):
        notes = infiller.fill(song, region, controls=controls, seed=seed, sampling=WILD)[0].notes.get(0, ())
        assert notes
        for note in notes:
            tones = {0, 4, 7} if note.onset < middle else {9, 0, 4} if note.onset < bars[5].start else {5, 9, 0}
            assert note.pitch % 12 in tones


@pytest.mark.parametrize(
    ("controls", "tracks", "complaint"),
    [
        ({"chords": read_chords("C | F | G")}, [0], "chords for 3 bars, the region has 2"),
        ({"chords": read_chords("C")}, [3], "do not apply to drums"),
    ],
)
def test_chords_that_cannot_be_kept_are_refused(infiller, song, controls, tracks, complaint):
    with pytest.raises(ControlError, match=complaint):
        infiller.fill(song, Region.bars(song.score, 4, 5, tracks), controls=AttributeControls(**controls))


def test_a_model_trained_on_no_controls_refuses_them(infiller, song):
    bare = Infiller(infiller.engine, max_length=900)
    with pytest.raises(ControlError, match="not trained to follow density"):
        bare.fill(song, Region.bars(song.score, 4, 5, [0]), controls=AttributeControls(density=2))


def test_chord_tones_without_chords_are_refused():
    with pytest.raises(ControlError, match="no chords are given"):
        AttributeControls(chord_tones_only=True)
    with pytest.raises(ControlError, match="is empty"):
        read_chords("C || F")


def test_an_untrained_model_keeps_enforced_controls(infiller, song):
    bare = Infiller(infiller.engine, max_length=900)
    region = Region.bars(song.score, 4, 7, [0])
    quarters = (song.score.bars[4].end - song.score.bars[4].start) / song.score.ticks_per_quarter
    counts = []
    for density in (0.5, 1.0, 2.0):
        controls = AttributeControls(density=density, polyphony=1.5, velocity=90, enforce=True)
        assert controls.conditioning == {}
        notes = bare.fill(song, region, controls=controls, seed=3, sampling=WILD)[0].notes[0]
        assert all(82 <= note.velocity <= 98 for note in notes)
        for bar in song.score.bars[4:8]:
            count = sum(bar.start <= note.onset < bar.end for note in notes)
            assert abs(count - density * quarters) <= max(1, 0.2 * density * quarters)
        counts.append(len(notes))
    assert counts == sorted(counts)


def test_constraints_and_enforced_controls_hold_together():
    controls = AttributeControls(density=2, polyphony=3, velocity=90, enforce=True)
    both = controls.constraints(Constraints(max_polyphony=2, velocity_min=95, pitch_min=60))
    assert (both.max_polyphony, both.velocity_min, both.velocity_max, both.pitch_min) == (2, 95, 98, 60)
    with pytest.raises(ControlError, match="velocity range 110-98"):
        controls.constraints(Constraints(velocity_min=110))
    with pytest.raises(ControlError, match="could be enforced"):
        AttributeControls(style="pop", enforce=True)


def test_enforced_chord_tones_do_not_condition_the_model(infiller, song):
    bare = Infiller(infiller.engine, max_length=900)
    controls = AttributeControls(chords=read_chords("G"), chord_tones_only=True, enforce=True)
    assert controls.conditioning == {}
    fill = bare.fill(song, Region.bars(song.score, 4, 5, [0]), controls=controls, seed=1, sampling=WILD)[0]
    assert {note.pitch % 12 for note in fill.notes[0]} <= {7, 11, 2}
    with pytest.raises(ControlError, match="can be enforced"):
        bare.fill(song, Region.bars(song.score, 4, 5, [0]), controls=AttributeControls(density=2))
