"""The bundled music: complete bars, the right keys, well-known places note for note."""

import io

import mido
import pytest

from harmonixr_model import examples
from harmonixr_model.errors import HarmonixrError
from harmonixr_model.examples import pieces
from harmonixr_model.examples.notation import NotationError, pitch_of, read_part

SCORES = {"prelude": pieces.prelude_in_c(), "minuet": pieces.minuet_in_g(), "canon": pieces.canon_in_d()}
SCALES = {"prelude": {0, 2, 4, 5, 7, 9, 11}, "minuet": {7, 9, 11, 0, 2, 4, 6}, "canon": {2, 4, 6, 7, 9, 11, 1}}


@pytest.mark.parametrize(("piece", "bars", "tracks"), [("prelude", 35, 2), ("minuet", 32, 2), ("canon", 19, 4)])
def test_a_piece_has_its_bars_and_every_track_plays_to_the_end(piece, bars, tracks):
    score = SCORES[piece]
    assert len(score.bars) == bars
    assert len(score.tracks) == tracks
    for track in score.tracks:
        assert track.notes[-1].end == score.bars[-1].end


@pytest.mark.parametrize(("piece", "share"), [("prelude", 0.92), ("minuet", 0.97), ("canon", 1.0)])
def test_the_notes_fit_the_key(piece, share):
    pitches = [n.pitch % 12 for t in SCORES[piece].tracks for n in t.notes]
    assert sum(p in SCALES[piece] for p in pitches) / len(pitches) >= share


def test_the_prelude_fills_every_sixteenth_of_its_first_thirty_four_bars():
    onsets = {n.onset for t in SCORES["prelude"].tracks for n in t.notes}
    assert onsets == {*range(0, 34 * 1920, 120), 34 * 1920}


def test_the_prelude_holds_its_famous_harmonies():
    """The accidentals are those of the score: bars 6, 10, 12, 14, 20, 22, 23, 28 and 32, nowhere else."""
    score = SCORES["prelude"]
    outside = {
        bar.index + 1: {n.pitch % 12 for t in score.tracks for n in t.notes if bar.start <= n.onset < bar.end}
        - SCALES["prelude"]
        for bar in score.bars
    }
    assert {bar: notes for bar, notes in outside.items() if notes} == {
        6: {6}, 10: {6}, 12: {10, 1}, 14: {8}, 20: {10}, 22: {6, 3}, 23: {8}, 28: {3, 6}, 32: {10},
    }  # fmt: skip


def test_the_minuet_is_harmonised_without_a_clash_on_any_downbeat():
    """Against the bass the tune never forms a semitone or a major seventh on a downbeat."""
    right, left = SCORES["minuet"].tracks
    for bar in SCORES["minuet"].bars:
        tune = [n.pitch for n in right.notes if n.onset == bar.start]
        bass = min(n.pitch for n in left.notes if n.onset == bar.start)
        assert (max(tune) - bass) % 12 not in {1, 11}, bar.index + 1


def test_the_canon_is_a_canon():
    score = SCORES["canon"]
    first, second, third, _ = ([(n.onset, n.pitch) for n in t.notes if n.onset < 18 * 1920] for t in score.tracks)
    bars = 2 * 1920
    assert [(t + bars, p) for t, p in first if t + bars < 18 * 1920] == second
    assert [(t + bars, p) for t, p in second if t + bars < 18 * 1920] == third


@pytest.mark.parametrize("name", examples.names())
def test_an_example_is_read_by_other_programs_and_names_its_licence(name):
    file = mido.MidiFile(file=io.BytesIO(examples.load(name)))
    assert sum(m.type == "note_on" for track in file.tracks for m in track) > 200
    assert len([t for t in file.tracks if any(m.type == "note_on" for m in t)]) >= 2
    about = examples.about(name)
    assert about.title
    assert about.licence
    assert examples.load(name) == examples.load(name)


def test_an_unknown_example_is_named_with_the_known_ones():
    with pytest.raises(HarmonixrError, match=r"'nothing'.*prelude-in-c"):
        examples.load("nothing")


def test_a_bar_that_does_not_add_up_is_named():
    with pytest.raises(NotationError, match="bar 2 lasts 960 ticks, not 1440"):
        read_part("C4q D4 E4 | F4h", bar_ticks=1440)


def test_what_is_not_notation_is_named():
    with pytest.raises(NotationError, match="bar 1 holds 'x!'"):
        read_part("C4h. x!", bar_ticks=1440)
    with pytest.raises(NotationError, match="'H4' is not a pitch"):
        pitch_of("H4")


def test_durations_stay_in_force_and_dots_and_chords_and_rests_are_read():
    notes = read_part("[C4 E4]e. G4s -e D4 | Bb3h", bar_ticks=960)
    assert [(n.onset, n.duration, n.pitch) for n in notes] == [
        (0, 360, 60), (0, 360, 64), (360, 120, 67), (720, 240, 62), (960, 960, 58),
    ]  # fmt: skip
