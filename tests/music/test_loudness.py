"""Loudness agrees with the tables of ITU-R BS.1770-4 and the cases of EBU Tech 3341; matching keeps its promises."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonixr_model.music.compose import compose
from harmonixr_model.music.loudness import (
    Loudness,
    _k_filters,
    integrated_lufs,
    match_loudness,
    matching_gains,
    measure,
    true_peak_dbtp,
)
from harmonixr_model.music.synth import render

RATE = 48_000


def sine(dbfs, seconds, *, hertz=1000.0, rate=RATE, phase=0.0, channels=2):
    time = np.arange(round(seconds * rate)) / rate
    wave = 10 ** (dbfs / 20) * np.sin(2 * np.pi * hertz * time + phase)
    return np.tile(wave, (channels, 1))


def in_turn(*parts):
    """EBU's cases: stereo sines of 1 kHz at these levels (dBFS); half these seconds, which changes no reading."""
    return np.concatenate([sine(level, seconds / 2) for level, seconds in parts], axis=1)


def test_the_filters_at_48_kHz_are_the_tables_of_the_standard():
    (b1, a1), (b2, a2) = _k_filters(48_000)
    assert b1 == pytest.approx((1.53512485958697, -2.69169618940638, 1.19839281085285), abs=1e-11)
    assert a1 == pytest.approx((1.0, -1.69065929318241, 0.73248077421585), abs=1e-11)
    assert b2 == (1.0, -2.0, 1.0)
    assert a2 == pytest.approx((1.0, -1.99004745483398, 0.99007225036621), abs=1e-11)


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000, 96_000])
def test_a_full_scale_997_Hz_sine_on_one_channel_reads_minus_3_01_LUFS(rate):
    one_side = sine(0, 5, hertz=997, rate=rate)
    one_side[1] = 0
    assert integrated_lufs(one_side, rate) == pytest.approx(-3.01, abs=0.02)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([(-23, 20)], -23.0, id="case 1"),
        pytest.param([(-33, 20)], -33.0, id="case 2"),
        pytest.param([(-36, 10), (-23, 60), (-36, 10)], -23.0, id="case 3: the relative gate"),
        pytest.param([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0, id="case 4: both gates"),
        pytest.param([(-26, 20), (-20, 20.1), (-26, 20)], -23.0, id="case 5"),
    ],
)
def test_the_cases_of_EBU_tech_3341_read_as_they_must(parts, expected):
    assert integrated_lufs(in_turn(*parts), RATE) == pytest.approx(expected, abs=0.1)


def faded(tone):
    """A tone that starts at once has energy past half the rate, which no sampled signal can."""
    ramp = np.minimum(1, np.arange(tone.shape[1]) / 2000)
    return tone * ramp * ramp[::-1]


@pytest.mark.parametrize(
    ("hertz_share", "phase", "amplitude", "expected"),
    [
        pytest.param(1 / 4, 0, 0.5, -6.0, id="case 15"),
        pytest.param(1 / 4, 45, 0.5, -6.0, id="case 16"),
        pytest.param(1 / 6, 60, 0.5, -6.0, id="case 17"),
        pytest.param(1 / 8, 67.5, 0.5, -6.0, id="case 18"),
        pytest.param(1 / 4, 45, 1.41, 3.0, id="case 19: peaks between the samples, above full scale"),
    ],
)
def test_true_peaks_of_EBU_tech_3341_are_found_between_the_samples(hertz_share, phase, amplitude, expected):
    tone = sine(20 * math.log10(amplitude), 0.5, hertz=RATE * hertz_share, phase=math.radians(phase))
    assert expected - 0.4 <= true_peak_dbtp(faded(tone)) <= expected + 0.2


def test_a_peak_between_samples_is_higher_than_any_sample():
    tone = faded(sine(0, 0.5, hertz=RATE / 4, phase=math.pi / 4))
    assert np.abs(tone).max() < 0.708
    assert true_peak_dbtp(tone) == pytest.approx(0, abs=0.1)


def test_low_tones_count_less_than_high_ones():
    low, middle, high = (integrated_lufs(sine(-20, 3, hertz=hertz), RATE) for hertz in (40, 1000, 4000))
    assert low < middle - 3
    assert high == pytest.approx(middle + 3.3, abs=0.3)


def test_silence_has_no_loudness_and_is_left_as_it_is():
    quiet = np.zeros((2, RATE), dtype=np.float32)
    assert measure(quiet, RATE) == Loudness(-math.inf, -math.inf)
    assert measure(np.zeros((2, 0)), RATE).lufs == -math.inf
    loud = sine(-30, 1).astype(np.float32)
    same, lifted = match_loudness([quiet, loud], RATE)
    assert not same.any()
    assert measure(lifted, RATE).lufs == pytest.approx(-18, abs=0.01)


def test_a_sound_shorter_than_a_block_still_has_a_loudness():
    assert integrated_lufs(sine(-23, 0.2), RATE) == pytest.approx(-23, abs=0.5)


def test_two_renderings_of_music_become_equally_loud_under_the_ceiling():
    loud, soft = compose(3, bars=4), compose(5, bars=4)
    sounds = match_loudness([render(score, end_s=6) * np.float32(g) for score, g in ((loud, 1), (soft, 0.1))], 44_100)
    first, second = (measure(sound, 44_100) for sound in sounds)
    assert first.lufs == pytest.approx(second.lufs, abs=0.01)
    assert max(first.peak_dbtp, second.peak_dbtp) <= -0.99


levels = st.floats(-60, 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(levels, st.floats(0, 40)), min_size=1, max_size=4), st.floats(-30, -10), st.floats(-9, 0))
def test_matched_sounds_are_equally_loud_at_the_target_or_the_ceiling(given_levels, target, ceiling):
    measured = [Loudness(lufs, lufs + crest) for lufs, crest in given_levels]
    gains = matching_gains(measured, target_lufs=target, ceiling_dbtp=ceiling)
    decibels = [20 * math.log10(gain) for gain in gains]
    after = [one.lufs + db for one, db in zip(measured, decibels, strict=True)]
    peaks = [one.peak_dbtp + db for one, db in zip(measured, decibels, strict=True)]
    assert max(after) - min(after) < 1e-9
    assert max(peaks) <= ceiling + 1e-9
    assert after[0] == pytest.approx(target) or max(peaks) == pytest.approx(ceiling)


def test_long_sound_is_measured_in_pieces_that_leave_no_seam():
    """A tone over several pieces reads as a short one, and a peak at a piece's edge is found."""
    long = sine(-23, 13, hertz=997)
    assert integrated_lufs(long, RATE) == pytest.approx(integrated_lufs(long[:, : 3 * RATE], RATE), abs=0.001)
    click = np.zeros((1, 2**18 + 100))
    click[0, 2**18 - 1 : 2**18 + 1] = 0.5
    assert true_peak_dbtp(click) == pytest.approx(true_peak_dbtp(click[:, 2**18 - 100 :]), abs=1e-9)
    assert true_peak_dbtp(click) > -6 + 1
