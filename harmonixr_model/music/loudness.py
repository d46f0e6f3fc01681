"""Measure the loudness of audio, and compute gains that make several sounds equally loud.

Integrated loudness and true peak follow Recommendation ITU-R BS.1770-4, annexes 1 and 2. The filters come
from scipy, which the extra `analysis` installs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly, sosfilt

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
# Annex 2 requires four times the rate; the interpolator reaches ten samples to each side.
_OVERSAMPLING, _MARGIN = 4, 16
# Samples in one step: half an hour of sound at once would take gigabytes.
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
    padded_CN = np.pad(audio_CN, ((0, 0), (_MARGIN, _MARGIN)))
    edge = _OVERSAMPLING * _MARGIN
    for start in range(0, audio_CN.shape[1], _CHUNK):
        part_CN = padded_CN[:, start : start + _CHUNK + 2 * _MARGIN]
        peak = max(peak, float(np.abs(resample_poly(part_CN, _OVERSAMPLING, 1, axis=1)[:, edge:-edge]).max()))
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


def match_loudness(sounds: Sequence[NDArray[np.float32]], sample_rate: int) -> list[NDArray[np.float32]]:
    """Return the sounds [C, N] equally loud, each scaled by one gain."""
    gains = matching_gains([measure(sound, sample_rate) for sound in sounds])
    return [sound * np.float32(gain) for sound, gain in zip(sounds, gains, strict=True)]


def _lufs(power: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.asarray(_OFFSET_LUFS + 10 * np.log10(power))


def _block_power(audio_CN: Audio, sample_rate: int) -> NDArray[np.float64]:
    """Return the K-weighted mean square of 0.4 s blocks, one every 0.1 s, summed over channels; drop the rest."""
    sections = np.array([(*numerator, *denominator) for numerator, denominator in _k_filters(sample_rate)])
    state = np.zeros((len(sections), len(audio_CN), 2))
    energy = np.zeros(audio_CN.shape[1])
    for start in range(0, len(energy), _CHUNK):
        part_CN, state = sosfilt(sections, audio_CN[:, start : start + _CHUNK].astype(np.float64), zi=state)
        energy[start : start + _CHUNK] = (part_CN**2).sum(axis=0)
    step = round(_STEP_S * sample_rate)
    if energy.size < _STEPS_A_BLOCK * step:
        return energy.mean(keepdims=True) if energy.size else energy
    energy_S = energy[: energy.size // step * step].reshape(-1, step).sum(axis=1)
    return np.asarray(np.convolve(energy_S, np.ones(_STEPS_A_BLOCK), mode="valid") / (_STEPS_A_BLOCK * step))


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
