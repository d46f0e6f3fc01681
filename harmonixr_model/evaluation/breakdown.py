"""The groups under which an item's results are reported: shape, repetition, source and role of the track."""

from __future__ import annotations

from collections import Counter

from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Track

ALL = "all shapes"
REPEATED, NOVEL = "repeated elsewhere", "novel"
SOURCE, ROLE = "source: ", "role: "
GROUPS = {"source": SOURCE, "role": ROLE}
BAND_TRACKS = 4
_BASSES = range(32, 40)  # the basses of General MIDI
# A track with at least so many notes per onset has chords; a piano with melody and bass has about 1.3.
_CHORDAL = 1.7


def groups_of(item: EvaluationItem) -> list[str]:
    """Return the groups, ALL first. An item with a single hidden field has only its shape.

    Its results must not be summed with those of whole notes.
    """
    if item.field:
        return [item.shape]
    groups = [ALL, REPEATED if item.is_repeated else NOVEL, item.shape]
    if item.source:
        groups.append(SOURCE + item.source)
    tracks = {cell.track for cell in item.prompt.cells}
    if len(tracks) == 1:
        playing = sum(bool(track.notes) for track in item.context.tracks)
        role = role_of(item.context.tracks[tracks.pop()])
        groups.append(f"{ROLE}{role}{' of a band' if playing >= BAND_TRACKS else ''}")
    return groups


def role_of(track: Track) -> str:
    """Return the role of a track by its instrument, its name and its number of notes per onset."""
    if track.is_drum:
        return "drums"
    if track.program in _BASSES or "bass" in track.name.lower():
        return "bass"
    onsets = Counter(note.onset for note in track.notes)
    return "chords" if onsets and len(track.notes) / len(onsets) >= _CHORDAL else "line"
