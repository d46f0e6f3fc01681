"""Synthesise a score with symusic and the soundfont that pretty_midi ships."""

from __future__ import annotations

import io
import math
import wave
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonixr_model.errors import RegionError
from harmonixr_model.music.score import DEFAULT_TEMPO, Note, Score
from harmonixr_model.music.transforms import clip, map_notes

# C channels (2), N samples
# A little below full scale, so that resampling does not clip.
PEAK = 0.9
SAMPLE_RATE = 44_100
# Time for the last notes to decay where no end is given.
TAIL_S = 1.5
MAX_SECONDS = 1800.0
# symusic 0.5.8 never returns from some notes above this pitch (101-108, in 42 of the soundfont's programs, at 44.1 kHz;
# lower ones at lower rates) and is silent above 108. Such notes move down by octaves, except on drum kits.
HIGHEST_PITCH = 100


def render(score: Score, *, start_s: float = 0.0, end_s: float | None = None) -> NDArray[np.float32]:
    """Return float32 [2, N] at 44.1 kHz of the interval [start_s, end_s), with its peak at 0.9 (silence stays 0).

    A note that sounds at `start_s` is struck there. With `end_s`, N is exactly the interval's length, so that two
    renderings of one interval are in sync; without it, the last notes decay.

    Raises:
        RegionError: the interval is empty or longer than half an hour.
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
        # A tick is longer than a sample: drop the samples between the tick and `start_s`.
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
    elapsed, here, pace = 0.0, *DEFAULT_TEMPO
    left = seconds * 1e6 * score.ticks_per_quarter
    for tempo in score.tempos:
        step = (tempo.tick - here) * pace
        if elapsed + step > left:
            break
        elapsed, here, pace = elapsed + step, tempo.tick, tempo.us_per_quarter
    # Half a nanosecond of slack: a tick's own time must not round down to the tick before.
    return here + int((left - elapsed + 0.5 * score.ticks_per_quarter) // pace)


def to_symusic(score: Score) -> Any:
    """Return the score as a symusic Score in ticks."""
    import symusic

    out = symusic.Score(score.ticks_per_quarter)
    out.tempos.extend([symusic.Tempo(tick, mspq=us_per_quarter) for tick, us_per_quarter in score.tempos])
    out.time_signatures.extend([symusic.TimeSignature(*metre) for metre in score.time_signatures])
    for track in score.tracks:
        part = symusic.Track(track.name, track.program, track.is_drum)
        part.notes.extend([symusic.Note(*note) for note in track.notes])
        out.tracks.append(part)
    return out


def soundfont() -> Path:
    """Return the path of the General MIDI soundfont in pretty_midi's package."""
    # Importing pretty_midi would take a second.
    spec = find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise RuntimeError("pretty_midi, which holds the soundfont, is not installed; install the project again")
    return Path(spec.origin).parent / "TimGM6mb.sf2"


def _playable(score: Score) -> Score:
    """Return the score with every pitch above HIGHEST_PITCH moved down by octaves, except on drum kits."""

    def playable(note: Note) -> Note:
        return note._replace(pitch=note.pitch - 12 * math.ceil(max(0, note.pitch - HIGHEST_PITCH) / 12))

    return map_notes(score, playable, tracks=[i for i, track in enumerate(score.tracks) if not track.is_drum])


@lru_cache(maxsize=1)
def _synthesizer() -> Any:
    import symusic

    return symusic.Synthesizer(str(soundfont()), SAMPLE_RATE, 0)
