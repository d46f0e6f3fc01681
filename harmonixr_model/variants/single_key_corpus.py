"""A corpus in one key: every piece is transposed to C major or A minor."""

from __future__ import annotations

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.music.estimate import estimate_key
from harmonixr_model.music.score import Score
from harmonixr_model.music.transforms import transpose

_HOME = {"major": 0, "minor": 9}


class SingleKeyCorpus(Corpus):
    """A corpus whose pieces are transposed to C or A when they are read; the files stay unchanged."""

    def score(self, index: int) -> Score:
        """Return a piece as a grid score in C major or A minor."""
        return in_single_key(super().score(index))


def in_single_key(score: Score) -> Score:
    """Return a score transposed to C major or A minor by the fewest semitones that keep its pitches within MIDI's.

    The key is estimated from all notes except drums. A score without a key, or with too wide a range, stays unchanged.
    """
    notes = [note for track in score.tracks if not track.is_drum for note in track.notes]
    key = estimate_key(notes)
    if key is None:
        return score
    up = (_HOME[key.mode] - key.tonic) % 12
    low, high = min(note.pitch for note in notes), max(note.pitch for note in notes)
    fitting = [by for by in (up, up - 12) if low + by >= 0 and high + by <= 127]
    return transpose(score, semitones=min(fitting, key=abs)) if fitting else score
