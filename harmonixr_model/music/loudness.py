"""Measure the loudness of audio, and compute gains that make several sounds equally loud.

Integrated loudness and true peak follow Recommendation ITU-R BS.1770-4, annexes 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# C channels (left and right, or one), N samples, B gating blocks, S steps of 0.1 s
Audio = NDArray[np.floating]

# Loud enough for a phone's loudspeaker; music with sharp attacks seldom reaches the ceiling.
TARGET_LUFS = -18.0
# EBU R 128: headroom for lossy codecs and simple converters.
CEILING_DBTP = -1.0

_STEP_S, _STEPS_A_BLOCK = 0.1, 4
_ABSOLUTE_GATE_LUFS, _RELATIVE_GATE_LU = -70.0, -10.0
# BS.1770-4 eq. 2 compensates the gain of K-weighting at 997 Hz.
_OFFSET_LUFS = -0.691
_OVERSAMPLING, _TAPS_A_SIDE, _KAISER_BETA = 4, 16, 8.0
# An upper bound of the weighting filters' decay.
_DECAY_S = 0.3
# Samples in one step: half an hour of sound at once would take gigabytes. A power of two for the FFT.
_CHUNK = 2**18


@dataclass(frozen=True, slots=True)
class Loudness:
    """Integrated loudness in LUFS and true peak in dBTP; both -inf for silence."""

    lufs: float
    peak_dbtp: float


def measure(audio_CN: Audio, sample_rate: int) -> Loudness:
    """Return the loudness of float audio [C, N] with full scale ±1; each channel has weight 1."""
    return Loudness(integrated_lufs(audio_CN, sample_rate), true_peak_dbtp(audio_CN))


def integrated_lufs(audio_CN: Audio, sample_rate: int) -> float:
    """Return the gated loudness; -inf where no block exceeds -70 LUFS. Audio under 0.4 s is one block."""
    power_B = _block_power(audio_CN, sample_rate)
    audible_B = power_B[_lufs(power_B) > _ABSOLUTE_GATE_LUFS]
    if not audible_B.size:
        return -math.inf
    gate = float(_lufs(audible_B.mean())) + _RELATIVE_GATE_LU
    return float(_lufs(audible_B[_lufs(audible_B) > gate].mean()))


def true_peak_dbtp(audio_CN: Audio) -> float:
    """Return the highest level on and between the samples, at four times the sample rate."""
    peak = float(np.abs(audio_CN).max(initial=0.0))
    if not peak:
        return -math.inf
    around = ((0, 0), (_TAPS_A_SIDE, _TAPS_A_SIDE))
    padded_CN = np.pad(audio_CN, around)
    for start in range(0, audio_CN.shape[1], _CHUNK):
        part_CN = padded_CN[:, start : start + _CHUNK + 2 * _TAPS_A_SIDE]
        for phase in _interpolators():
            for channel in part_CN:
                peak = max(peak, float(np.abs(np.convolve(channel, phase, mode="valid")).max()))
    return 20 * math.log10(peak)


def matching_gains(
    measured: Sequence[Loudness], *, target_lufs: float = TARGET_LUFS, ceiling_dbtp: float = CEILING_DBTP
) -> tuple[float, ...]:
    """Return linear gains after which all sounds are equally loud and none peaks above the ceiling.

    The common level is `target_lufs`, or lower where a sound would otherwise exceed the ceiling. A sound without a
    loudness (silence) gets gain 1.
    """
    audible = [one for one in measured if math.isfinite(one.lufs)]
    level = min([target_lufs, *(one.lufs + ceiling_dbtp - one.peak_dbtp for one in audible)])
    return tuple(10 ** ((level - one.lufs) / 20) if math.isfinite(one.lufs) else 1.0 for one in measured)


def match_loudness(
    sounds: Sequence[NDArray[np.float32]],
    sample_rate: int,
    *,
    target_lufs: float = TARGET_LUFS,
    ceiling_dbtp: float = CEILING_DBTP,
) -> list[NDArray[np.float32]]:
    """Return the sounds [C, N] equally loud, each scaled by one gain."""
    measured = [measure(sound, sample_rate) for sound in sounds]
    gains = matching_gains(measured, target_lufs=target_lufs, ceiling_dbtp=ceiling_dbtp)
    return [sound * np.float32(gain) for sound, gain in zip(sounds, gains, strict=True)]


def _lufs(power: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.asarray(_OFFSET_LUFS + 10 * np.log10(power))


def _block_power(audio_CN: Audio, sample_rate: int) -> NDArray[np.float64]:
    """Return the K-weighted mean square of 0.4 s blocks, one every 0.1 s, summed over channels; drop the rest."""
    step = round(_STEP_S * sample_rate)
    energy = np.concatenate([(part_CN**2).sum(axis=0) for part_CN in _k_weighted(audio_CN, sample_rate)] or [[]])
    if energy.size < _STEPS_A_BLOCK * step:
        return energy.mean(keepdims=True) if energy.size else np.zeros(0)
    energy_S = energy[: energy.size // step * step].reshape(-1, step).sum(axis=1)
    return np.asarray(np.convolve(energy_S, np.ones(_STEPS_A_BLOCK), mode="valid") / (_STEPS_A_BLOCK * step))


def _k_weighted(audio_CN: Audio, sample_rate: int) -> Iterator[NDArray[np.float64]]:
    """Yield the audio after both stages of K-weighting, in chunks; each chunk's decay is added to the next.

    The filter runs by FFT: numpy has no recursive filter, and a loop over samples would take seconds.
    """
    decay = round(_DECAY_S * sample_rate)
    chunk = _CHUNK - decay
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(_CHUNK))
    response = np.ones_like(z)
    for numerator, denominator in _k_filters(sample_rate):
        response *= np.polyval(numerator[::-1], z) / np.polyval(denominator[::-1], z)
    tail_CN = np.zeros((audio_CN.shape[0], decay))
    for start in range(0, audio_CN.shape[1], chunk):
        part_CN = np.asarray(audio_CN[:, start : start + chunk], dtype=np.float64)
        length = part_CN.shape[1]
        filtered_CN = np.fft.irfft(np.fft.rfft(part_CN, _CHUNK, axis=1) * response, _CHUNK, axis=1)
        filtered_CN[:, :decay] += tail_CN
        tail_CN = filtered_CN[:, length : length + decay]
        yield filtered_CN[:, :length]


def _k_filters(sample_rate: int) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
    """Return the two biquads. At 48 kHz they are tables 1 and 2 of annex 1; elsewhere their analogue prototypes."""
    k, q = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    scale = 1 + k / q + k * k
    shelf = (
        ((high + band * k / q + k * k) / scale, 2 * (k * k - high) / scale, (high - band * k / q + k * k) / scale),
        (1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale),
    )
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    scale = 1 + k / q + k * k
    return shelf, ((1.0, -2.0, 1.0), (1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale))


@lru_cache(maxsize=1)
def _interpolators() -> tuple[NDArray[np.float64], ...]:
    """Return windowed sincs that interpolate at 1/4, 2/4 and 3/4 between samples (annex 2 requires 4×)."""
    taps = np.arange(-_TAPS_A_SIDE, _TAPS_A_SIDE)
    phases = []
    for step in range(1, _OVERSAMPLING):
        at = taps + step / _OVERSAMPLING
        window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0.0, 1 - (at / _TAPS_A_SIDE) ** 2))) / np.i0(_KAISER_BETA)
        kernel = np.sinc(at) * window
        phases.append(kernel / kernel.sum())
    return tuple(phases)
