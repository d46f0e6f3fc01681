"""The infiller on a tiny model with random weights: every fill leaves the song around the gap unchanged."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonixr_model import examples
from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.errors import ControlError, MidiError, PromptError, RegionError, TokenError
from harmonixr_model.fill.infiller import Infiller, as_song, window_seed
from harmonixr_model.fill.session import FillSession
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.fill_grammar import FillGrammar
from harmonixr_model.infill.checkpoint import save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.region import Cell, NoteKey, Region
from harmonixr_model.music.score import Track
from harmonixr_model.music.song import Song
from harmonixr_model.notes.vocabulary import VOCAB

torch.set_num_threads(1)
WILD = Sampling(temperature=2.0, top_p=1.0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = InfillTransformer(InfillConfig(width=16, layers=1, heads=1, dropout=0.0, max_length=900))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.fixture(scope="module")
def infiller(model):
    return Infiller(Decoder(model), max_length=model.config.max_length)


@pytest.fixture(scope="module")
def song():
    return Song.parse(compose_song(3, bars=16))


def outside(score, region):
    """Every note a fill may not touch, but its end: a new note never cuts one short, a deleted one frees nothing."""
    return [sorted(n for n in track.notes if not region.contains(i, n)) for i, track in enumerate(score.tracks)]


@given(seed=st.integers(0, 2**40), source=st.integers(0, 30), data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_fill_stays_inside_its_region_and_obeys_its_constraints_on_any_song(infiller, seed, source, data):
    song = Song.parse(compose_song(source, bars=8))
    tracks = data.draw(st.lists(st.sampled_from(range(3)), min_size=1, unique=True))
    first = data.draw(st.integers(0, 6))
    region = Region.bars(song.score, first, first + 1, tracks)
    scale = (0, 2, 4, 5, 7, 9, 11)
    constraints = Constraints(pitch_min=40, pitch_max=80, scale=scale, velocity_min=40, max_polyphony=3)
    fill = infiller.fill(song, region, constraints=constraints, seed=seed, sampling=WILD)[0]
    assert set(fill.notes) <= set(tracks)
    for track, notes in fill.notes.items():
        for note in notes:
            assert any(c.track == track and c.start <= note.onset < c.end for c in region.cells)
            assert 40 <= note.pitch <= 80
            assert note.pitch % 12 in scale
            assert note.velocity >= 40
    filled = Song.parse(fill.midi).score
    assert filled.tempos == song.score.tempos
    assert filled.time_signatures == song.score.time_signatures
    if len(filled.tracks) == len(song.score.tracks):  # a track emptied by its fill is none any more
        assert outside(filled, region) == outside(song.score, region)
        for track, notes in fill.notes.items():
            inside = Counter(n for n in filled.tracks[track].notes if region.contains(track, n))
            assert inside == Counter(notes)


@pytest.mark.parametrize("name", examples.names())
def test_every_example_can_be_filled_over_all_tracks_and_each_alone(infiller, name):
    song = Song.parse(examples.load(name))
    for tracks in (None, *([i] for i in range(len(song.score.tracks)))):
        region = Region.bars(song.score, 2, 2, tracks)
        fill = infiller.fill(song, region, sampling=WILD)[0]
        assert outside(Song.parse(fill.midi).score, region) == outside(song.score, region)


def test_an_empty_region_gives_the_input_byte_for_byte(infiller, song):
    fill = infiller.fill(song, Region())[0]
    assert fill.midi == song.midi.source
    assert fill.notes == {}
    assert fill.tokens == ()


def test_the_same_seed_gives_the_same_file_and_candidate_i_is_that_of_seed_plus_i(infiller, song):
    region = Region.bars(song.score, 2, 6)
    fills = infiller.fill(song, region, n=3, seed=7)
    assert len(fills[0].tokens) > 1, "the region is to take several windows"
    assert fills == infiller.fill(song, region, n=3, seed=7)
    alone = infiller.fill(song, region, seed=9)[0]
    assert fills[2].log_probability == pytest.approx(alone.log_probability, abs=0.01)
    assert replace(fills[2], log_probability=0) == replace(alone, log_probability=0)
    assert [fill.seed for fill in fills] == [7, 8, 9]
    assert len({fill.midi for fill in fills}) == 3


def test_stored_tokens_make_the_same_file_again_with_no_model(infiller, song):
    region = Region.bars(song.score, 2, 9, [0, 2])
    constraints = Constraints(max_polyphony=2)
    fill = infiller.fill(song, region, constraints=constraints, seed=5, sampling=WILD)[0]
    without_engine = Infiller(engine=None, max_length=infiller.max_length)
    again = without_engine.replay(song, region, fill.tokens, constraints=constraints)
    assert again.midi == fill.midi
    assert again.notes == fill.notes
    assert again.tokens == fill.tokens


def test_tokens_of_another_gap_are_refused(infiller, song):
    fill = infiller.fill(song, Region.bars(song.score, 2, 3, [0]))[0]
    with pytest.raises(TokenError):
        infiller.replay(song, Region.bars(song.score, 2, 3, [1, 2]), fill.tokens)
    with pytest.raises(PromptError, match="not filled yet"):
        infiller.replay(song, Region.bars(song.score, 2, 3, [0]), [])
    with pytest.raises(PromptError, match="filled already"):
        infiller.replay(song, Region.bars(song.score, 2, 3, [0]), [*fill.tokens, *fill.tokens])


def test_a_later_prompt_contains_the_fill_of_the_earlier_window(infiller, song):
    region = Region.bars(song.score, 2, 9)
    second = []
    for seed in (1, 2):
        session = FillSession(song, region, max_length=infiller.max_length)
        for _ in range(2):
            second.append(session.next_prompt())
            session.accept(infiller.engine.generate(second[-1], seeds=[seed], sampling=WILD)[0].tokens)
    assert second[0].prefix.tolist() == second[2].prefix.tolist()
    assert second[1].prefix.tolist() != second[3].prefix.tolist()


def test_a_continuation_goes_on_past_the_end_and_changes_nothing_before(infiller, song):
    region = Region.continuation(song.score, 2)
    fill = infiller.fill(song, region, constraints=Constraints(min_notes_per_bar=2), sampling=WILD)[0]
    filled = Song.parse(fill.midi).score
    assert filled.end > region.start
    assert all(note.onset >= region.start for notes in fill.notes.values() for note in notes)
    assert outside(filled, region) == [list(map(tuple, sorted(track.notes))) for track in song.score.tracks]


def test_a_new_track_is_added_beside_the_old_ones(infiller, song):
    new = len(song.score.tracks)
    region = Region(tuple(Cell(new, bar.start, bar.end) for bar in song.score.bars[:3]))
    fill = infiller.fill(
        song,
        region,
        constraints=Constraints(min_notes_per_bar=2),
        new_track=Track(program=42, name="Cello"),
        sampling=WILD,
    )[0]
    filled = Song.parse(fill.midi).score
    assert filled.tracks[:new] == song.score.tracks
    added = filled.tracks[new]
    assert (added.program, added.name) == (42, "Cello")
    assert added.channel not in {track.channel for track in song.score.tracks}
    assert Counter(added.notes) == Counter(fill.notes[new])
    assert len(added.notes) >= 6


def test_locked_notes_stay_and_a_band_leaves_the_others(infiller, song):
    bars = Region.bars(song.score, 2, 4, [1])
    inside = [n for n in song.score.tracks[1].notes if bars.contains(1, n)]
    middle = sorted(n.pitch for n in inside)[len(inside) // 2]
    lock = next(n for n in inside if n.pitch >= middle)
    region = replace(bars, pitch_low=middle, locks=frozenset({NoteKey(1, lock.onset, lock.pitch)}))
    fill = infiller.fill(song, region, sampling=WILD)[0]
    filled = Song.parse(fill.midi).score
    assert any((n.onset, n.pitch) == (lock.onset, lock.pitch) for n in filled.tracks[1].notes)
    assert outside(filled, region) == outside(song.score, region)
    assert all(note.pitch >= middle for note in fill.notes.get(1, ()))


def test_a_stretch_of_beats_is_filled_within_its_bar(infiller, song):
    bar = song.score.bars[3]
    region = Region.ticks(song.score, bar.start + 100, bar.start + 700, [0, 1])
    fill = infiller.fill(song, region, constraints=Constraints(min_notes_per_bar=3), sampling=WILD)[0]
    assert all(region.start <= note.onset < region.end for notes in fill.notes.values() for note in notes)


def test_bytes_and_pretty_midi_are_songs_too(infiller, song):
    region = Region.bars(song.score, 2, 2, [0])
    from_bytes = infiller.fill(song.midi.source, region)[0]
    assert from_bytes == infiller.fill(song, region)[0]
    pretty = song.to_pretty_midi()
    assert len(as_song(pretty).score.tracks) == len(song.score.tracks)


def test_progress_counts_every_window_of_every_candidate(infiller, song):
    seen = []
    infiller.fill(song, Region.bars(song.score, 2, 6), n=2, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 1
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == seen[-1][1]
    assert all(done < total for done, total in seen[:-1])


def longest_chords(prompt):
    """Fill a prompt with as many simultaneous, long notes as the grammar allows."""
    grammar, tokens = FillGrammar(prompt.tables), []
    while not grammar.finished:
        options = [int(token) for token in np.flatnonzero(grammar.allowed())]
        pitches = [token for token in options if token in VOCAB.pitch]
        durations = [token for token in options if token in VOCAB.duration]
        others = [token for token in options if token != VOCAB.id("END")] or options
        tokens.append(pitches[0] if pitches else durations[-1] if durations else others[0])
        grammar.advance(tokens[-1])
    return tokens


def test_a_window_that_earlier_fills_made_too_large_is_split(song):
    """A header holds the notes that sound into its cell: long chords before it make the prompt longer than planned."""
    region = Region.bars(song.score, 2, 9)
    session = FillSession(song, region, max_length=900)
    planned = list(session.windows)
    while (prompt := session.next_prompt()) is not None:
        session.accept(longest_chords(prompt))
    assert len(session.windows) > len(planned)
    assert [cell for window in session.windows for cell in window] == [cell for window in planned for cell in window]
    assert Infiller(None, max_length=900).replay(song, region, session.tokens).midi == session.result().midi


def test_windows_of_a_candidate_never_share_a_random_stream():
    seeds = {window_seed(seed, window) for seed in range(50) for window in range(50)}
    assert len(seeds) == 2500
    assert window_seed(7, 0) == 7


@pytest.mark.parametrize(("options", "error"), [({"n": 0}, ControlError), ({"seed": -1}, ControlError)])
def test_options_out_of_range_are_refused(infiller, song, options, error):
    with pytest.raises(error, match="give at least 1"):
        infiller.fill(song, Region.bars(song.score, 0, 0), **options)


def test_a_track_that_is_not_there_and_a_file_that_is_no_midi_are_refused(infiller, song):
    with pytest.raises(RegionError, match="track 9 does not exist"):
        infiller.fill(song, Region((Cell(8, 0, 480),)))
    with pytest.raises(MidiError):
        infiller.fill(b"not music", Region())


def test_a_saved_model_fills_as_the_one_in_memory(infiller, model, song, tmp_path):
    save_checkpoint(tmp_path / "tiny.safetensors", model, info={"data": "none"})
    loaded = Infiller.load(tmp_path / "tiny.safetensors")
    region = Region.bars(song.score, 2, 3)
    assert loaded.info == {"data": "none"}
    assert loaded.fill(song, region, seed=3) == infiller.fill(song, region, seed=3)
