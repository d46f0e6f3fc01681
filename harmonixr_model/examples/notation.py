"""A small text notation for music.

`D5q G4e A4 | [G3 B3 D4]h -q`: a pitch with its octave (C4 is middle C, `Eb4`, `F#4`), a chord in brackets or `-` for a
rest, then a duration (`w h q e s` for whole to sixteenth, `.` for a dot), which holds until the next one. The reader
checks that every bar is full.
"""

from __future__ import annotations

import re

from harmonixr_model.music.harmony import LETTERS
from harmonixr_model.music.score import Note

TPQ = 480
_DURATIONS = {"w": 4 * TPQ, "h": 2 * TPQ, "q": TPQ, "e": TPQ // 2, "s": TPQ // 4}
_SIGNS = {"": 0, "#": 1, "b": -1}
_ITEM = re.compile(r"(?P<pitches>\[[^\]]+\]|-|[A-G][#b]?\d)(?P<duration>[whqes]\.?)?")


class NotationError(ValueError):
    """The text is not in the notation, or a bar does not add up."""


def pitch_of(name: str) -> int:
    """Return the MIDI pitch of a name such as `C4`, `F#3` or `Bb2`."""
    found = re.fullmatch(r"([A-G])([#b]?)(\d)", name)
    if found is None:
        raise NotationError(f"{name!r} is not a pitch; write for instance C4, F#3 or Bb2")
    letter, sign, octave = found.groups()
    return 12 * (int(octave) + 1) + LETTERS[letter] + _SIGNS[sign]


def read_part(text: str, *, bar_ticks: int, velocity: int = 80) -> tuple[Note, ...]:
    """Return the notes of one part. Downbeats are a little louder.

    Raises:
        NotationError: naming the bar, when an item cannot be read or a bar does not last `bar_ticks`.
    """
    notes: list[Note] = []
    duration = TPQ
    for index, bar in enumerate(text.strip().strip("|").split("|")):
        now = start = index * bar_ticks
        for pitches, value in _items(bar, index + 1):
            if value:
                duration = _DURATIONS[value[0]] * (3 if value.endswith(".") else 2) // 2
            names = [] if pitches == "-" else pitches.strip("[]").split()
            notes += [Note(now, duration, pitch_of(name), velocity + 8 * (now == start)) for name in names]
            now += duration
        if now - start != bar_ticks:
            raise NotationError(f"bar {index + 1} lasts {now - start} ticks, not {bar_ticks}: {bar.strip()!r}")
    return tuple(sorted(notes, key=lambda n: (n.onset, n.pitch)))


def _items(bar: str, number: int) -> list[tuple[str, str]]:
    rest = _ITEM.sub("", bar).strip()
    if rest:
        raise NotationError(f"bar {number} holds {rest!r}, which is not a note, a chord or a rest")
    return [(m["pitches"], m["duration"] or "") for m in _ITEM.finditer(bar)]
