"""When a channel's pitches are free for a new note, and how many notes sound on a track."""

# T steps of the gap, H steps of the horizon

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harmonixr_model.notes.encoded_score import EncodedScore
from harmonixr_model.notes.vocabulary import MAX_DURATION

_AHEAD = np.arange(MAX_DURATION, 0, -1, dtype=np.int16)


def occupy(longest_T: npt.NDArray[np.int16], onset: int, end: int) -> None:
    """Add a note that sounds in [onset, end) to one pitch's column of longest durations; changes it in place."""
    longest_T[max(0, onset) : max(0, end)] = 0
    first, stop = max(0, onset - MAX_DURATION), min(onset, len(longest_T))
    if first < stop:
        before, shift = longest_T[first:stop], MAX_DURATION - onset
        np.minimum(before, _AHEAD[first + shift : stop + shift], out=before)


def longest_durations(context: EncodedScore, channel: int, origin: int, steps: int) -> npt.NDArray[np.int16]:
    """Return int16 [T, 128]: the longest note from each step that overlaps no context note of the channel."""
    longest = np.full((steps, 128), MAX_DURATION, dtype=np.int16)
    for index, track in enumerate(context.tracks):
        if track.channel == channel:
            for note in context.notes(index, origin - MAX_DURATION, origin + steps + MAX_DURATION):
                if note.end > origin:
                    occupy(longest[:, note.pitch], note.onset - origin, note.end - origin)
    return longest


def sounding_notes(context: EncodedScore, track: int, origin: int, horizon: int) -> npt.NDArray[np.int16]:
    """Return int16 [H]: how many notes of the track's context sound in each step from `origin` on."""
    change = np.zeros(horizon + 1, dtype=np.int16)
    for note in context.notes(track, origin - MAX_DURATION, origin + horizon):
        if note.end > origin:
            change[max(0, note.onset - origin)] += 1
            change[min(horizon, note.end - origin)] -= 1
    return np.cumsum(change[:-1], dtype=np.int16)
