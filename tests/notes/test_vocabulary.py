"""The vocabulary: blocks, names and ids, and bins that represent the nearest value."""

import pytest

from harmonixr_model.errors import TokenError
from harmonixr_model.notes.vocabulary import (
    DURATIONS,
    VOCAB,
    Block,
    duration_bin,
    duration_floor,
    tempo_bin,
    tempo_of,
    velocity_bin,
    velocity_of,
)


def test_every_id_has_one_name_and_every_name_one_id():
    assert [VOCAB.id(name) for name in VOCAB.names] == list(range(VOCAB.size))
    assert [VOCAB.name(token) for token in range(VOCAB.size)] == list(VOCAB.names)


def test_the_blocks_cover_all_ids_without_overlap():
    blocks = [block for block in vars(VOCAB).values() if isinstance(block, Block)]
    assert [token for block in blocks for token in block] == list(range(VOCAB.size))


def test_the_vocabulary_is_the_one_that_checkpoints_were_made_for():
    """A change here makes every checkpoint unreadable: use a SPARE token instead, or write it in the changelog."""
    assert VOCAB.size == 1583
    assert VOCAB.hash == "51a83cf3c075d7490fc96de198c10122fd16b422ae57160d099e9f2818507bac"


def test_unknown_names_and_ids_are_refused():
    with pytest.raises(TokenError, match="PITCH_128"):
        VOCAB.id("PITCH_128")
    with pytest.raises(TokenError, match="no token -1"):
        VOCAB.name(-1)
    with pytest.raises(IndexError):
        VOCAB.pitch[128]
    with pytest.raises(TokenError):
        VOCAB.pitch.index(VOCAB.pitch.stop)


def test_every_duration_takes_the_nearest_bin_half_way_going_up():
    for steps in range(1, DURATIONS[-1] + 1):
        nearest = DURATIONS[duration_bin(steps)]
        assert nearest == max(d for d in DURATIONS if abs(d - steps) == min(abs(e - steps) for e in DURATIONS))
    assert DURATIONS[duration_bin(10**6)] == DURATIONS[-1]
    assert DURATIONS[duration_bin(0)] == 1


def test_a_floored_duration_is_the_longest_that_is_not_longer():
    for steps in (1, 48, 49, 51, 52, 103, 104, 10**6):
        assert duration_floor(steps) == max(d for d in DURATIONS if d <= steps)


def test_velocity_and_tempo_bins_round_trip_their_values():
    assert all(velocity_bin(velocity_of(b)) == b for b in range(VOCAB.velocity.size))
    assert all(abs(velocity_of(velocity_bin(v)) - v) <= 2 for v in range(1, 128))
    assert all(tempo_bin(tempo_of(b)) == b for b in range(VOCAB.tempo.size))
    assert tempo_of(tempo_bin(500_000)) == 500_000
    assert (tempo_bin(1), tempo_bin(2**24)) == (31, 0)
