"""Musical measures see what a fill is beside its context, whatever the key, and say so under their names."""

import pytest

from harmonixr_model.fill.session import FillSession
from harmonixr_model.music.compose import compose
from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.music.transforms import transpose
from harmonixr_model.music.write import write_midi
from harmonixr_model.notes.encoded_score import EncodedScore
from harmonixr_model.notes.grid import quantize
from harmonixr_model.preference.loss import LOSS, TIE, WIN
from harmonixr_model.preference.musical_features import NAMES, music_features
from harmonixr_model.preference.pairs import RatedPair, split_comparisons
from harmonixr_model.preference.report import human_ceiling
from harmonixr_model.prompt.fill_tokens import encode_fill, target_notes

SCORE = compose(3, bars=8)


def measured(score, change=lambda notes: notes):
    """The measures of what the composer wrote in bars 4-5 of the bass, changed."""
    song = Song.parse(write_midi(score))
    region = Region.bars(song.score, 3, 4, tracks=[2])
    prompt = FillSession(song, region, max_length=4096).next_prompt()
    cells = target_notes(prompt, EncodedScore(quantize(song.score)))
    tokens, _ = encode_fill(prompt, [change(notes) for notes in cells])
    return dict(zip(NAMES, music_features(prompt, [int(t) for t in tokens]).tolist(), strict=True))


def test_the_same_music_in_another_key_has_the_same_features():
    here, there = measured(SCORE), measured(transpose(SCORE, semitones=2))
    for name in NAMES:
        assert here[name] == pytest.approx(there[name], abs=1e-4), name


def test_notes_off_the_scale_and_off_the_beat_change_the_features():
    def sharper(notes: tuple[Note, ...]) -> list[Note]:
        return [note._replace(pitch=note.pitch + 1) for note in notes]

    def later(notes: tuple[Note, ...]) -> list[Note]:
        return [note._replace(onset=note.onset + 6, duration=max(1, note.duration - 6)) for note in notes]

    true, off_scale, off_beat = measured(SCORE), measured(SCORE, sharper), measured(SCORE, later)
    on_scale = ("degree_0", "degree_2", "degree_4", "degree_5", "degree_7", "degree_9", "degree_11")
    assert sum(off_scale[name] for name in on_scale) < sum(true[name] for name in on_scale)
    assert off_scale["rhythm_likeness"] == pytest.approx(true["rhythm_likeness"])
    assert off_beat["rhythm_likeness"] < true["rhythm_likeness"]
    assert off_beat["on_beat"] < true["on_beat"]


def test_an_empty_fill_has_features():
    empty = measured(SCORE, lambda notes: [])
    assert empty["log_notes"] == 0
    assert empty["silent_cells"] == 1
    assert empty["rhythm_hits"] == 0


def test_chance_agreement_gives_no_ceiling_and_sides_do_not_matter():
    def twice(one: int, other: int) -> list[RatedPair]:
        return [RatedPair(0, 1, one, "c", "p"), RatedPair(1, 0, other, "c", "p")]

    assert human_ceiling(twice(WIN, LOSS)).agreement == 1
    assert human_ceiling(twice(WIN, LOSS)).accuracy == 1
    assert human_ceiling(twice(WIN, WIN)).agreement == 0
    assert human_ceiling(twice(WIN, WIN)).accuracy == 0.5
    assert human_ceiling(twice(WIN, TIE)).pairs == 0


def test_held_out_raters_and_versions_are_neither_fitted_nor_reported_with_the_rest():
    pairs = [
        RatedPair(0, 1, WIN, f"c{piece}", f"p{piece}", rater=f"r{rater}", versions=("a", "new" if rater == 3 else "b"))
        for piece in range(20)
        for rater in range(5)
    ]
    split = split_comparisons(pairs, held_out=0.2, seed=0, held_out_raters=0.2, held_out_version="new")
    parts = [split.train, split.valid, split.test, split.raters, split.version]
    assert sorted(i for part in parts for i in part) == list(range(len(pairs)))
    test_pieces = {pairs[i].piece_id for i in split.test}
    assert not test_pieces & {pairs[i].piece_id for part in (split.train, split.valid) for i in part}
    assert not {pairs[i].piece_id for i in split.train} & {pairs[i].piece_id for i in split.valid}
    fitted_raters = {pairs[i].rater for i in [*split.train, *split.valid]}
    assert split.version
    assert all("new" in pairs[i].versions for i in split.version)
    assert not any("new" in pairs[i].versions for i in [*split.train, *split.valid])
    assert not fitted_raters & {pairs[i].rater for i in split.raters}
