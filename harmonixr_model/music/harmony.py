"""Keys, scales and chords as pitch classes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harmonixr_model.errors import ControlError

_STEPS = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Sharps of the major key on each pitch class (flats negative), in the spelling with fewer accidentals.
_SHARPS = 0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5

# Of each quality, by the vocabulary's name and in its order: semitones above the root, and spellings.
_QUALITIES: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "maj": ((0, 4, 7), ("", "M", "maj", "major")),
    "min": ((0, 3, 7), ("m", "min", "-", "minor")),
    "dim": ((0, 3, 6), ("dim", "o", "°")),
    "aug": ((0, 4, 8), ("aug", "+")),
    "sus2": ((0, 2, 7), ("sus2",)),
    "sus4": ((0, 5, 7), ("sus4", "sus")),
    "7": ((0, 4, 7, 10), ("7",)),
    "maj7": ((0, 4, 7, 11), ("maj7", "M7")),
    "min7": ((0, 3, 7, 10), ("m7", "min7", "-7")),
    "hdim7": ((0, 3, 6, 10), ("m7b5", "ø", "ø7", "hdim7")),
    "dim7": ((0, 3, 6, 9), ("dim7", "°7", "o7")),
    "5": ((0, 7), ("5",)),
}
QUALITIES = {name: intervals for name, (intervals, _) in _QUALITIES.items()}
_QUALITY_OF = {spelling: name for name, (_, spellings) in _QUALITIES.items() for spelling in spellings}
_CHORD = re.compile(r"\s*([A-Ga-g])([#♯b♭]?)(\S*)\s*")
LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_KEY = re.compile(r"\s*([A-Ga-g])\s*([#♯b♭]?)\s*(major|minor|maj|min|m|)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Key:
    """A tonic pitch class and a mode, `major` or `minor`."""

    tonic: int
    mode: str

    def moved(self, semitones: int) -> Key:
        """Return this key transposed."""
        return Key((self.tonic + semitones) % 12, self.mode)

    @property
    def relative(self) -> Key:
        """The key of the other mode with the same signs."""
        return Key((self.tonic + 9) % 12, "minor") if self.mode == "major" else Key((self.tonic + 3) % 12, "major")

    @property
    def sharps(self) -> int:
        """Sharps of the key signature, flats negative."""
        return _SHARPS[self.tonic if self.mode == "major" else self.relative.tonic]


@dataclass(frozen=True, slots=True)
class Chord:
    """Pitch classes from the root up."""

    pitch_classes: tuple[int, ...]

    def nearest(self, pitch: int) -> int:
        """Return the chord tone closest to `pitch`, the lower one of two equally close."""
        return min(
            (p for p in range(pitch - 6, pitch + 7) if p % 12 in self.pitch_classes), key=lambda p: abs(p - pitch)
        )

    def low(self, floor: int, index: int = 0) -> int:
        """Return the lowest pitch at or above `floor` of the chord's tone `index` (0: root, 1: third, 2: fifth)."""
        return floor + (self.pitch_classes[index] - floor) % 12

    def voicing(self, floor: int) -> tuple[int, ...]:
        """Return the chord's tones within the octave above `floor`, low to high."""
        return tuple(sorted(self.low(floor, index) for index in range(len(self.pitch_classes))))


def read_key(text: str) -> Key:
    """Return the key named by a text such as 'G major', 'Bb minor' or 'F#m'; without a mode it is major.

    Raises ControlError where the text is not of that form.
    """
    match = _KEY.fullmatch(text)
    if not match:
        raise ControlError(f"cannot read the key {text!r}; write a tonic and a mode, such as 'G major' or 'Bb minor'")
    letter, sign, mode = match.groups()
    # A lone m or M is minor: 'CM' for C major is rare and ambiguous.
    return Key(_pitch_class(letter, sign), "minor" if mode.lower() in {"minor", "min", "m"} else "major")


def chord_named(root: int, quality: str) -> Chord:
    """Return the chord with a quality of QUALITIES on a root pitch class."""
    return Chord(tuple((root + interval) % 12 for interval in QUALITIES[quality]))


def quality_of(chord: Chord) -> str | None:
    """Return the chord's name in QUALITIES, None where it has none."""
    intervals = tuple((tone - chord.pitch_classes[0]) % 12 for tone in chord.pitch_classes)
    return next((name for name, known in QUALITIES.items() if known == intervals), None)


def read_chord(text: str) -> Chord:
    """Return the chord named by a text such as 'C', 'Am', 'F#m7', 'Bbmaj7' or 'Gsus4'.

    Raises ControlError where the text is not of that form.
    """
    match = _CHORD.fullmatch(text)
    quality = _QUALITY_OF.get(match[3]) if match else None
    if match is None or quality is None:
        known = ", ".join(suffix for suffix in _QUALITY_OF if suffix and suffix.isascii())
        raise ControlError(
            f"cannot read the chord {text!r}; write a root and nothing or one of {known}, such as 'C', 'Am' or 'F#m7'"
        )
    return chord_named(_pitch_class(match[1], match[2]), quality)


def scale_of(key: Key) -> frozenset[int]:
    """Return the pitch classes of the key's scale (natural minor)."""
    return frozenset((key.tonic + step) % 12 for step in _STEPS[key.mode])


def chord_of(key: Key, degree: int, *, seventh: bool = False) -> Chord:
    """Return the triad or seventh chord on a scale degree from 0; a minor key's dominant has the leading tone."""
    steps = list(_STEPS[key.mode])
    if key.mode == "minor" and degree == 4:
        steps[6] = 11
    size = 4 if seventh else 3
    return Chord(tuple((key.tonic + steps[(degree + 2 * i) % 7]) % 12 for i in range(size)))


def _pitch_class(letter: str, sign: str) -> int:
    return (LETTERS[letter.upper()] + (1 if sign in {"#", "♯"} else -1 if sign else 0)) % 12
