"""Under which headings a gap's results are listed: its shape, whether the song repeats it, its source, its role.

Knows nothing of measures.
"""

from __future__ import annotations

from collections import Counter

from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.music.score import Track

ALL = "all shapes"
REPEATED, NOVEL = "repeated elsewhere", "novel"
SOURCE, ROLE = "source: ", "role: "
GROUPS = {"source": SOURCE, "role": ROLE}
BAND_TRACKS = 4
_BASSES = range(32, 40)  # General MIDI's basses
# From so many notes an onset on, a track is heard as chords; pianos of melody and bass have about 1.3.
_CHORDAL = 1.7


def groups_of(item: EvaluationItem) -> list[str]:
    """Return the headings, ALL first; a item about one field of the notes has a heading of its own alone.

    Bits for one field, and how much is right when the rest is known, are not to be summed with those of whole notes.
    """
    if item.only:
        return [item.shape]
    kinds = [ALL, REPEATED if item.is_repeated else NOVEL, item.shape]
    if item.source:
        kinds.append(SOURCE + item.source)
    tracks = {cell.track for cell in item.prompt.cells}
    if len(tracks) == 1:
        playing = sum(bool(track.notes) for track in item.context.tracks)
        role = role_of(item.context.tracks[tracks.pop()])
        kinds.append(f"{ROLE}{role}{' of a band' if playing >= BAND_TRACKS else ''}")
    return kinds


def is_shape(kind: str) -> bool:
    """Return whether a heading belongs in the tables by shape."""
    return not kind.startswith((SOURCE, ROLE))


def is_of(group: str, kind: str) -> bool:
    """Return whether a heading belongs in the tables by this one of GROUPS."""
    return kind.startswith(GROUPS[group])


def role_of(track: Track) -> str:
    """Return what a track does, by its instrument, its name and how many notes it strikes at once."""
    if track.is_drum:
        return "drums"
    if track.program in _BASSES or "bass" in track.name.lower():
        return "bass"
    onsets = Counter(note.onset for note in track.notes)
    return "chords" if onsets and len(track.notes) / len(onsets) >= _CHORDAL else "line"
