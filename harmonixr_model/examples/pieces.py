"""Three public-domain pieces, note by note."""

from __future__ import annotations

from harmonixr_model.examples.notation import TPQ, pitch_of, read_part
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature, Track

_HARPSICHORD, _PIANO, _VIOLIN, _CELLO = 6, 0, 40, 42

# One figure a bar, played twice: two notes of the left hand, three of the right.
_PRELUDE_FIGURES = """
C4 E4 G4 C5 E5 | C4 D4 A4 D5 F5 | B3 D4 G4 D5 F5 | C4 E4 G4 C5 E5
C4 E4 A4 E5 A5 | C4 D4 F#4 A4 D5 | B3 D4 G4 D5 G5 | B3 C4 E4 G4 C5
A3 C4 E4 G4 C5 | D3 A3 D4 F#4 C5 | G3 B3 D4 G4 B4 | G3 Bb3 E4 G4 C#5
F3 A3 D4 A4 D5 | F3 Ab3 D4 F4 B4 | E3 G3 C4 G4 C5 | E3 F3 A3 C4 F4
D3 F3 A3 C4 F4 | G2 D3 G3 B3 F4 | C3 E3 G3 C4 E4 | C3 G3 Bb3 C4 E4
F2 F3 A3 C4 E4 | F#2 C3 A3 C4 Eb4 | Ab2 F3 B3 C4 D4 | G2 F3 G3 B3 D4
G2 E3 G3 C4 E4 | G2 D3 G3 C4 F4 | G2 D3 G3 B3 F4 | G2 Eb3 A3 C4 F#4
G2 E3 G3 C4 G4 | G2 D3 G3 C4 F4 | G2 D3 G3 B3 F4 | C2 C3 G3 Bb3 E4
"""
# Bars 33 and 34: the bass, the note that joins it a sixteenth later, and the run of the right hand.
_PRELUDE_RUNS = (
    ("C2", "C3", "F3 A3 C4 F4 C4 A3 C4 A3 F3 A3 F3 D3 F3 D3"),
    ("C2", "B2", "G4 B4 D5 F5 D5 B4 D5 B4 G4 B4 D4 F4 E4 D4"),
)

_MINUET_RIGHT = """
D5q G4e A4 B4 C5 | D5q G4 G4 | E5q C5e D5 E5 F#5 | G5q G4 G4
| C5q D5e C5 B4 A4 | B4q C5e B4 A4 G4 | F#4q G4e A4 B4 G4 | A4h.
| D5q G4e A4 B4 C5 | D5q G4 G4 | E5q C5e D5 E5 F#5 | G5q G4 G4
| C5q D5e C5 B4 A4 | B4q C5e B4 A4 G4 | A4q B4e A4 G4 F#4 | G4h.
| B5q G5e A5 B5 G5 | A5q D5e E5 F#5 D5 | G5q E5e F#5 G5 D5 | C#5q B4e C#5 A4q
| A4e B4 C#5 D5 E5 F#5 | G5q F#5 E5 | F#5q A4 C#5 | D5h.
| D5q G4e F#4 G4q | E5q G4e F#4 G4q | D5q C5 B4 | A4e G4 F#4 G4 A4q
| D4e E4 F#4 G4 A4 B4 | C5q B4 A4 | B4e D5 G4q F#4 | [B3 D4 G4]h.
"""
_MINUET_LEFT = """
[G3 B3 D4]h A3q | B3h. | C4h. | B3h. | A3h. | G3h. | D4q B3 G3 | D4q D3e C4 B3 A3
| B3h A3q | G3q B3 G3 | C4h. | B3q C4e B3 A3 G3 | A3h F#3q | G3h B3q | C4q D4 D3 | G3h G2q
| G3h. | F#3h. | E3q G3 E3 | A3h A2q | A3h. | B3q D4 C#4 | D4q F#3 A3 | D4q D3 C4
| B3h D4q | C4h E4q | B3q A3 G3 | D4h -q | D3h F#3q | E3q G3 F#3 | G3q B2 D3 | G3q D3 G2
"""

_CANON_GROUND = "D3q A2 B2 F#2 | G2q D2 G2 A2 |"
# The voice of the three violins, which enter at intervals of two bars.
_CANON_VOICE = """
F#5q E5 D5 C#5 | B4q A4 B4 C#5
| D5q C#5 B4 A4 | G4q F#4 G4 E4
| D4e F#4 A4 G4 F#4 D4 F#4 E4 | D4e B3 D4 A4 G4 B4 A4 G4
| F#4e D4 E4 C#5 D5 F#5 A5 A4 | B4e G4 A4 F#4 D4 D5 D5e. C#5s
| D5s C#5 D5 D4 C#4 A4 E4 F#4 D4 D5 C#5 B4 C#5 F#5 A5 B5
| G5s F#5 E5 G5 F#5 E5 D5 C#5 B4 A4 G4 F#4 E4 G4 F#4 E4
| D4s E4 F#4 G4 A4 E4 A4 G4 F#4 B4 A4 G4 A4 G4 F#4 E4
| D4s B3 B4 C#5 D5 C#5 B4 A4 G4 F#4 E4 B4 A4 B4 A4 G4
"""
_CANON_CLOSE = ("F#4w", "A4w", "D5w")


def prelude_in_c() -> Score:
    """J. S. Bach, Prelude in C major BWV 846: all 35 bars, two hands."""
    left, right = _prelude_figures()
    for number, (bass, joining, run) in enumerate(_PRELUDE_RUNS):
        start = (32 + number) * 4 * TPQ
        left += _held(start, 16, bass, joining)
        right += _steps(start + TPQ // 2, run.split())
    last = 34 * 4 * TPQ
    left += [Note(last, 4 * TPQ, pitch_of(name), 64) for name in ("C2", "C3")]
    right += [Note(last, 4 * TPQ, pitch_of(name), 64) for name in ("E4", "G4", "C5")]
    hands = _track("Right hand", right, _PIANO, 0), _track("Left hand", left, _PIANO, 1)
    return Score(TPQ, hands, (Tempo(0, 60_000_000 // 66),), (TimeSignature(0, 4, 4),))


def minuet_in_g() -> Score:
    """C. Petzold, Minuet in G major BWV Anh. 114: 32 bars, without repeats."""
    right = read_part(_MINUET_RIGHT, bar_ticks=3 * TPQ, velocity=84)
    left = read_part(_MINUET_LEFT, bar_ticks=3 * TPQ, velocity=70)
    hands = _track("Right hand", right, _HARPSICHORD, 0), _track("Left hand", left, _HARPSICHORD, 1)
    return Score(TPQ, hands, (Tempo(0, 60_000_000 // 116),), (TimeSignature(0, 3, 4),))


def canon_in_d() -> Score:
    """J. Pachelbel, Canon in D: the ground and the first six variations in three voices, closed on the tonic."""
    bar = 4 * TPQ
    voice = read_part(_CANON_VOICE, bar_ticks=bar, velocity=80)
    tracks = []
    for number, close in enumerate(_CANON_CLOSE):
        delay = (2 + 2 * number) * bar
        end = 18 * bar
        played = [n._replace(onset=n.onset + delay) for n in voice if n.onset + delay < end]
        # A voice that ends before the others repeats, as in a canon.
        again = [n._replace(onset=n.onset + delay + 12 * bar) for n in voice if n.onset + delay + 12 * bar < end]
        closing = [n._replace(onset=end) for n in read_part(close, bar_ticks=bar, velocity=76)]
        tracks.append(_track(f"Violin {number + 1}", [*played, *again, *closing], _VIOLIN, number))
    ground = read_part(_CANON_GROUND * 9 + "D3w", bar_ticks=bar, velocity=72)
    tracks.append(_track("Cello", ground, _CELLO, 3))
    return Score(TPQ, tuple(tracks), (Tempo(0, 60_000_000 // 58),), (TimeSignature(0, 4, 4),))


def _prelude_figures() -> tuple[list[Note], list[Note]]:
    left: list[Note] = []
    right: list[Note] = []
    for number, figure in enumerate(_PRELUDE_FIGURES.strip().replace("\n", "|").split("|")):
        bass, joining, *upper = figure.split()
        for half in range(2):
            start = (2 * number + half) * 2 * TPQ
            left += _held(start, 8, bass, joining)
            right += _steps(start + TPQ // 2, upper * 2)
    return left, right


def _held(start: int, sixteenths: int, bass: str, joining: str) -> list[Note]:
    step = TPQ // 4
    return [
        Note(start, sixteenths * step, pitch_of(bass), 68),
        Note(start + step, (sixteenths - 1) * step, pitch_of(joining), 58),
    ]


def _steps(start: int, names: list[str]) -> list[Note]:
    return [Note(start + i * TPQ // 4, TPQ // 4, pitch_of(name), 60) for i, name in enumerate(names)]


def _track(name: str, notes: list[Note] | tuple[Note, ...], program: int, channel: int) -> Track:
    return Track(program=program, name=name, channel=channel).with_notes(notes)
