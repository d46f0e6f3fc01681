"""Keys, scales and chords as pitch classes. Knows nothing of time, notes or instruments."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harmonixr_model.errors import ControlError

_STEPS = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Sharps of the major key on each pitch class, flats negative; of two spellings the one with fewer signs.
_SHARPS = 0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5


_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
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
    """Return the key that a text like 'G major', 'Bb minor' or 'F#m' names; without a mode it is major.

    Raises:
        ControlError: the text is not of that form.
    """
    match = _KEY.fullmatch(text)
    if not match:
        raise ControlError(f"cannot read the key {text!r}; write a tonic and a mode, such as 'G major' or 'Bb minor'")
    letter, sign, mode = match.groups()
    shift = 1 if sign in {"#", "♯"} else -1 if sign else 0
    # A lone m is minor, whatever its case says in some notations: 'CM' is rare and ambiguous.
    return Key((_LETTERS[letter.upper()] + shift) % 12, "minor" if mode.lower() in {"minor", "min", "m"} else "major")


def scale_of(key: Key) -> frozenset[int]:
    """Return the pitch classes of the key's scale (natural minor)."""
    return frozenset((key.tonic + step) % 12 for step in _STEPS[key.mode])


def chord_of(key: Key, degree: int, *, seventh: bool = False) -> Chord:
    """Return the triad, or seventh chord, on a scale degree from 0. In minor the dominant has its leading tone."""
    steps = list(_STEPS[key.mode])
    if key.mode == "minor" and degree == 4:
        steps[6] = 11
    size = 4 if seventh else 3
    return Chord(tuple((key.tonic + steps[(degree + 2 * i) % 7]) % 12 for i in range(size)))
