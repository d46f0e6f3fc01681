"""The accuracy of the chord and key estimates, against labels made by hand and against composed harmony."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harmonixr_model.examples import pieces
from harmonixr_model.music.compose import compose, composed_harmony
from harmonixr_model.music.estimate import ChordSpan, estimate_chords, estimate_key
from harmonixr_model.music.harmony import Chord, Key, quality_of, read_chord, read_key
from harmonixr_model.music.score import Bar, Note, Score

# The chords of each bar, labelled by hand from the notes and spread evenly over the bar. '-' is an ambiguous beat
# (passing tones in both voices) or a bass alone; it does not count.
_PRELUDE = """
C | Dm7 | G7 | C | Am | D7 | G | Cmaj7 | Am7 | D7 | G | C#dim7 | Dm | Bdim7 | C | Fmaj7 | Dm7 | G7 | C | C7 | Fmaj7
| F#dim7 | Bdim7 | G7 | C | Gsus4 | G7 | F#dim7 | C | Gsus4 | G7 | C7 | F | G7 | C
"""
_MINUET = """
G | G | C | G | Am | G | D G G | D | G | G | C | G | Am Am D | G | - D D | G
| G | D | Em | A | A | G D A | D D A | D | G | C | G - G | D | D | - G D | G G D | G
"""
_CANON = "- - - - | - - - - |" + "D A Bm F#m | G D G A |" * 8 + "D"
_KEYS = {"prelude-in-c": "C major", "minuet-in-g": "G major", "canon-in-d": "D major"}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The shares of the labelled time in which the estimate has the label's tones, its root, and its kind of third."""

    exact: float
    root: float
    triad: float
    quarters: float


def hand_labelled() -> dict[str, tuple[Score, tuple[ChordSpan, ...], Key]]:
    """Return the project's encodings of public-domain pieces, with chords and keys labelled by hand."""
    made = {
        "prelude-in-c": (pieces.prelude_in_c(), _PRELUDE),
        "minuet-in-g": (pieces.minuet_in_g(), _MINUET),
        "canon-in-d": (pieces.canon_in_d(), _CANON),
    }
    return {name: (score, read_labels(text, score.bars), read_key(_KEYS[name])) for name, (score, text) in made.items()}


def read_labels(text: str, bars: Sequence[Bar]) -> tuple[ChordSpan, ...]:
    """Return the labelled spans of a text with one part per bar; raises ValueError for another number of parts."""
    spans = []
    for bar, part in zip(bars, text.strip().split("|"), strict=True):
        names = part.split()
        for i, name in enumerate(names):
            start, end = (bar.start + (bar.end - bar.start) * j // len(names) for j in (i, i + 1))
            if name != "-":
                spans.append(ChordSpan(start, end, read_chord(name)))
    return tuple(spans)


def chord_accuracy(score: Score, labels: Sequence[ChordSpan]) -> Accuracy:
    """Return the accuracy of the estimated chords of a whole piece."""
    found = estimate_chords(pitched_notes(score), score.bars, ticks_per_quarter=score.ticks_per_quarter)
    exact = root = triad = total = 0
    for label in labels:
        for span in found:
            overlap = min(span.end, label.end) - max(span.start, label.start)
            if overlap <= 0:
                continue
            total += overlap
            # A diminished seventh is the same chord on each of its roots.
            is_exact = set(span.chord.pitch_classes) == set(label.chord.pitch_classes)
            has_root = is_exact or span.chord.pitch_classes[0] == label.chord.pitch_classes[0]
            exact += overlap * is_exact
            root += overlap * has_root
            triad += overlap * (has_root and _third(span.chord) == _third(label.chord))
    quarters = total / score.ticks_per_quarter
    return Accuracy(exact / total, root / total, triad / total, quarters)


def estimated_key(score: Score) -> Key | None:
    """Return the estimated key of a whole piece."""
    return estimate_key(pitched_notes(score))


def composed_accuracies(seeds: Sequence[int], *, bars: int = 32) -> tuple[list[Accuracy], int, int]:
    """Return the chord accuracies of composed songs, the number of sections with a right key, and of all sections."""
    accuracies, right, sections = [], 0, 0
    for seed in seeds:
        score, harmony = compose(seed, bars=bars), composed_harmony(seed, bars=bars)
        accuracies.append(chord_accuracy(score, harmony.chords))
        notes = pitched_notes(score)
        for start, end, key in harmony.keys:
            right += estimate_key(n for n in notes if start <= n.onset < end) == key
            sections += 1
    return accuracies, right, sections


def pitched_notes(score: Score) -> list[Note]:
    """Return all notes except those of drums, by onset."""
    return sorted(note for track in score.tracks if not track.is_drum for note in track.notes)


def _third(chord: Chord) -> str | None:
    """Return the kind of a chord's third, None if it has neither."""
    quality = quality_of(chord)
    if quality in {"maj", "7", "maj7", "aug"}:
        return "major"
    return "minor" if quality in {"min", "min7", "dim", "dim7", "hdim7"} else None
