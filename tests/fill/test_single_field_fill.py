"""Single-field fills of whole songs: the requested field may change, everything else stays the same."""

from collections import Counter

import pytest
import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.errors import ControlError, RegionError
from harmonixr_model.fill.infiller import Infiller
from harmonixr_model.fill.session import FillSession
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.harmony import read_chord
from harmonixr_model.music.region import NoteKey, Region
from harmonixr_model.music.score import Track
from harmonixr_model.music.song import Song
from harmonixr_model.notes.field_tokens import NOTE_FIELDS
from harmonixr_model.prompt.controls import TRAINED, AttributeControls

CONFIG = InfillConfig(width=32, layers=2, heads=2, dropout=0.0, max_length=700)
OTHER_FIELDS = {"pitch": (0, 1, 3), "velocity": (0, 1, 2), "duration": (0, 2, 3), "rhythm": (2, 3)}


@pytest.fixture(scope="module")
def infiller():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = InfillTransformer(CONFIG).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    info = {"controls": list(TRAINED), "fields": NOTE_FIELDS}
    return Infiller(Decoder(model), max_length=CONFIG.max_length, info=info)


@pytest.fixture(scope="module")
def song():
    return Song.parse(compose_song(3, bars=16))


def others(song):
    return [[e for e in events if e.message[0] & 0xF0 not in (0x80, 0x90)] for events in song.midi.tracks]


@pytest.mark.parametrize("field", NOTE_FIELDS)
def test_a_fill_changes_the_requested_field_of_the_regions_notes_and_nothing_else(infiller, song, field):
    region = Region.bars(song.score, 4, 6)
    for fill in infiller.fill(song, region, field=field, n=2, seed=5):
        after = Song.parse(fill.midi)
        assert others(after) == others(song)
        changed = 0
        for t, (old, new) in enumerate(zip(song.score.tracks, after.score.tracks, strict=True)):
            inside = [note for note in old.notes if region.contains(t, note)]
            outside = Counter(note for note in old.notes if not region.contains(t, note))
            assert not outside - Counter(new.notes)
            left = Counter(new.notes) - outside
            assert left == Counter(fill.notes.get(t, ()))
            others_of = [
                Counter(tuple(n[i] for i in OTHER_FIELDS[field]) for n in notes) for notes in (inside, left.elements())
            ]
            assert others_of[0] == others_of[1]
            assert all(region.contains(t, note) for note in left)
            changed += len(Counter(inside) - left)
        assert changed > 3
        assert fill.dropped <= changed / 4


@pytest.mark.parametrize("field", NOTE_FIELDS)
def test_the_same_seed_gives_the_same_fill_and_its_tokens_replay_it(infiller, song, field):
    region = Region.bars(song.score, 2, 3, [0])
    one, two = infiller.fill(song, region, field=field, n=2, seed=1)
    (again,) = infiller.fill(song, region, field=field, seed=1)
    assert one.midi == again.midi != two.midi
    assert infiller.replay(song, region, one.tokens, field=field).midi == one.midi


def test_a_region_larger_than_one_prompt_is_filled_in_windows(infiller, song):
    region = Region.bars(song.score, 0, 15)
    (fill,) = infiller.fill(song, region, field="velocity", seed=2)
    assert len(fill.tokens) > 2
    after = Song.parse(fill.midi)
    for old, new in zip(song.score.tracks, after.score.tracks, strict=True):
        assert [n[:3] for n in old.notes] == [n[:3] for n in new.notes]


def test_locked_notes_stay_and_notes_outside_the_band_too(infiller, song):
    track = song.score.tracks[0]
    bars = Region.bars(song.score, 4, 7, [0])
    inside = [note for note in track.notes if bars.contains(0, note)]
    middle = sorted(note.pitch for note in inside)[len(inside) // 2]
    locks = frozenset(NoteKey(0, note.onset, note.pitch) for note in inside[::2])
    region = Region(bars.cells, middle, 127, locks)
    (fill,) = infiller.fill(song, region, field="pitch", seed=3)
    after = Song.parse(fill.midi).score.tracks[0].notes
    stays = Counter(note for note in track.notes if not region.contains(0, note))
    assert not stays - Counter(after)
    assert all(note.pitch >= middle for note in fill.notes[0])


def test_pitches_obey_constraints_and_chord_tones(infiller, song):
    region = Region.bars(song.score, 4, 5, [0])
    controls = AttributeControls(chords=((read_chord("C"),),), chord_tones_only=True)
    constraints = Constraints(pitch_min=40, pitch_max=90)
    (fill,) = infiller.fill(song, region, field="pitch", constraints=constraints, controls=controls)
    assert {note.pitch % 12 for note in fill.notes[0]} <= {0, 4, 7}
    assert all(40 <= note.pitch <= 90 for note in fill.notes[0])


def test_velocities_obey_constraints_even_where_they_do_not_change(infiller, song):
    region = Region.bars(song.score, 4, 5, [0])
    (fill,) = infiller.fill(song, region, field="velocity", constraints=Constraints(velocity_min=33, velocity_max=35))
    assert {note.velocity for note in fill.notes[0]} <= {33, 34, 35}


@pytest.mark.parametrize(
    ("field", "controls"),
    [
        ("pitch", AttributeControls(density=2)),
        ("velocity", AttributeControls(chords=((read_chord("C"),),))),
        ("rhythm", AttributeControls(velocity=80)),
    ],
)
def test_a_control_that_would_be_ignored_is_refused(song, field, controls):
    with pytest.raises(ControlError, match="leave it out"):
        FillSession(song, Region.bars(song.score, 2, 3), max_length=700, field=field, controls=controls)


def test_a_region_without_notes_and_a_new_track_are_refused(song):
    past = Region.continuation(song.score, 2)
    with pytest.raises(RegionError, match="has no note whose pitch could change"):
        FillSession(song, past, max_length=700, field="pitch")
    with pytest.raises(ControlError, match="new track"):
        FillSession(song, Region.bars(song.score, 2, 3), max_length=700, field="pitch", new_track=Track())


def test_a_model_not_trained_on_single_fields_refuses_them(infiller, song):
    untrained = Infiller(infiller.engine, max_length=CONFIG.max_length)
    with pytest.raises(ControlError, match="not trained to change the rhythm"):
        untrained.fill(song, Region.bars(song.score, 2, 3), field="rhythm")


def test_an_empty_region_gives_the_song_back(infiller, song):
    (fill,) = infiller.fill(song, Region(), field="rhythm")
    assert fill.midi == song.midi.source
