"""Piano rolls: a score as an array of tracks × pitches × steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmonixr_model.music.score import Score

# K tracks, P 128 pitches, S steps
_MAX_CELLS = 1 << 30


def piano_roll(score: Score, *, steps_per_quarter: int = 24, end: int | None = None) -> NDArray[np.uint8]:
    """Return uint8 [K, 128, S]: the velocity that sounds at each step, 0 for silence, the larger of two.

    Onsets and ends are rounded to the nearest step; a note fills at least one. `end` (ticks) defaults to the end of the
    last bar.

    Raises:
        ValueError: the roll would hold over a gigabyte.
    """
    last = score.bars[-1].end if end is None else end
    steps = -(-last * steps_per_quarter // score.ticks_per_quarter)
    if len(score.tracks) * 128 * steps > _MAX_CELLS:
        raise ValueError(f"a roll of {len(score.tracks)} tracks × 128 × {steps} steps is too large; clip the score")
    roll_KPS = np.zeros((len(score.tracks), 128, steps), dtype=np.uint8)
    for k, track in enumerate(score.tracks):
        for note in track.notes:
            start, stop = (
                (2 * tick * steps_per_quarter + score.ticks_per_quarter) // (2 * score.ticks_per_quarter)
                for tick in (note.onset, note.end)
            )
            row = roll_KPS[k, note.pitch, start : max(start + 1, stop)]
            np.maximum(row, note.velocity, out=row)
    return roll_KPS


def chroma(score: Score, *, steps_per_quarter: int = 24, end: int | None = None) -> NDArray[np.float32]:
    """Return float32 [12, S]: the summed velocity of each pitch class at each step, without drums."""
    roll_KPS = piano_roll(score, steps_per_quarter=steps_per_quarter, end=end)
    pitched_PS = roll_KPS[[not track.is_drum for track in score.tracks]].sum(axis=0, dtype=np.float32)
    return np.stack([pitched_PS[pitch_class::12].sum(axis=0) for pitch_class in range(12)])
