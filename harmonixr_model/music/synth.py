"""Hear a score: symusic's synthesizer on the soundfont that pretty_midi ships. Knows nothing of files or songs."""

from __future__ import annotations

import io
import math
import wave
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonixr_model.errors import RegionError
from harmonixr_model.music.score import Score
from harmonixr_model.music.transforms import clip

# C channels (2), N samples
# A little under full scale, so that no player's resampling clips.
PEAK = 0.9
SAMPLE_RATE = 44_100
# Time for the last notes to ring out when the end is left open.
TAIL_S = 1.5
MAX_SECONDS = 1800.0
# symusic 0.5.8 never returns from some notes above this pitch (101-108, in 42 of the soundfont's programs, at 44.1 kHz;
# at lower rates lower ones too) and is silent above 108. Such notes are sounded octaves lower. Drum kits are exempt.
HIGHEST_SOUNDED = 100


def render(score: Score, *, start_s: float = 0.0, end_s: float | None = None) -> NDArray[np.float32]:
    """Return float32 [2, N] at 44.1 kHz of the stretch [start_s, end_s), its peak at 0.9; silence stays silence.

    Only that stretch is synthesised: a note that sounds into it is struck at its beginning. With `end_s` given, N is
    exactly the stretch's length, so that two renderings of one stretch stay in sync; left out, the end rings out.

    Raises:
        RegionError: the stretch is empty or longer than half an hour.
    """
    stop_s = score.seconds(score.end) + TAIL_S if end_s is None else end_s
    if not 0 <= start_s < stop_s or stop_s - start_s > MAX_SECONDS:
        raise RegionError(
            f"cannot render {start_s:g}-{stop_s:g} s; give 0 <= start < end, at most {MAX_SECONDS:g} s apart"
        )
    start, stop = tick_at(score, start_s), tick_at(score, stop_s) + 1
    clipped = clip(score, start, stop)
    audio_CN = np.zeros((2, round((stop_s - start_s) * SAMPLE_RATE)), dtype=np.float32)
    if clipped.end:
        # The tick grid is coarser than a sample: what lies between the asked second and its tick is cut off.
        skip = round((start_s - score.seconds(start)) * SAMPLE_RATE)
        sound_CN = np.asarray(_synthesizer().render(to_symusic(_playable(clipped)), True))[:, max(0, skip) :]
        length = min(sound_CN.shape[1], audio_CN.shape[1])
        audio_CN[:, :length] = sound_CN[:, :length]
    peak = float(np.abs(audio_CN).max(initial=0.0))
    return audio_CN * np.float32(PEAK / peak) if peak > 0 else audio_CN


def wav_bytes(audio_CN: NDArray[np.float32]) -> bytes:
    """Return a 16-bit WAV file, 44.1 kHz, of float audio [C, N] in -1..1."""
    samples_NC = np.round(np.clip(audio_CN.T, -1, 1) * 32_767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(audio_CN.shape[0])
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples_NC.tobytes())
    return buffer.getvalue()


def tick_at(score: Score, seconds: float) -> int:
    """Return the last tick at or before `seconds`."""
    elapsed, here, pace = 0.0, 0, 500_000
    left = seconds * 1e6 * score.ticks_per_quarter
    for tempo in score.tempos:
        step = (tempo.tick - here) * pace
        if elapsed + step > left:
            break
        elapsed, here, pace = elapsed + step, tempo.tick, tempo.us_per_quarter
    # Half a billionth of a second of slack: a tick's own time must not round down to the tick before.
    return here + int((left - elapsed + 0.5 * score.ticks_per_quarter) // pace)


def to_symusic(score: Score) -> Any:
    """Return the score as a symusic Score in ticks."""
    import symusic

    out = symusic.Score(score.ticks_per_quarter)
    for tempo in score.tempos:
        out.tempos.append(symusic.Tempo(tempo.tick, mspq=tempo.us_per_quarter))
    for signature in score.time_signatures:
        out.time_signatures.append(symusic.TimeSignature(*signature))
    for track in score.tracks:
        part = symusic.Track(track.name, track.program, track.is_drum)
        for note in track.notes:
            part.notes.append(symusic.Note(*note))
        out.tracks.append(part)
    return out


def soundfont() -> Path:
    """Return the path of the General MIDI soundfont in pretty_midi's package."""
    # Found without importing pretty_midi, which takes a second.
    spec = find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise RuntimeError("pretty_midi is not installed, and with it the soundfont; install the project again")
    return Path(spec.origin).parent / "TimGM6mb.sf2"


def _playable(score: Score) -> Score:
    """Return the score with every pitch that the synthesizer cannot sound octaves lower."""
    tracks = []
    for track in score.tracks:
        if not track.is_drum and any(note.pitch > HIGHEST_SOUNDED for note in track.notes):
            track = track.with_notes(note._replace(pitch=_sounded(note.pitch)) for note in track.notes)
        tracks.append(track)
    return replace(score, tracks=tuple(tracks))


def _sounded(pitch: int) -> int:
    return pitch - 12 * math.ceil(max(0, pitch - HIGHEST_SOUNDED) / 12)


@lru_cache(maxsize=1)
def _synthesizer() -> Any:
    import symusic

    return symusic.Synthesizer(str(soundfont()), SAMPLE_RATE, 0)
