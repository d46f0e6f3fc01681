"""What a musician asks for softly, as tokens: said in the header of each cell, never enforced.

In training the same tokens are computed from the true answer, so that what is asked and what is measured mean the
same. Knows nothing of models, randomness or files; what must hold whatever the model thinks is `Constraints`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import ceil, floor
from typing import Any

from harmonixr_model.errors import ControlError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.estimate import ChordSpan
from harmonixr_model.music.harmony import QUALITIES, Chord, Key, quality_of, read_chord
from harmonixr_model.music.score import Bar, Note
from harmonixr_model.notes.encoded_score import GridCell, NoteField
from harmonixr_model.notes.grid import GRID
from harmonixr_model.notes.tags import COMPOSERS, STYLES
from harmonixr_model.notes.vocabulary import PITCH_CLASSES, VOCAB
from harmonixr_model.prompt.control_bins import (
    MOST_DENSITY,
    MOST_POLYPHONY,
    density_token,
    polyphony_token,
    velocity_token,
)

CELL_CONTROLS = ("density", "polyphony", "velocity", "chords")
REQUEST_CONTROLS = ("key", "style", "composer")
ENFORCEABLE = ("density", "polyphony", "velocity")
MAX_PITCHES = 128
_LOUDER = 8  # what is enforced stays within so much of the velocity asked for
CONTROLS = (*CELL_CONTROLS, *REQUEST_CONTROLS)
_MODES = ("major", "minor")
_QUALITY_NAMES = tuple(QUALITIES)


@dataclass(frozen=True, slots=True)
class AttributeControls:
    """What is asked for; None and an empty tuple ask for nothing. Raises ControlError where a value cannot be said.

    Attributes:
        density: notes a quarter that begin in each cell.
        polyphony: notes sounding at once, on average over the time in which any sounds.
        velocity: mean MIDI velocity.
        chords: for each bar of the region its chords, evenly spread over the bar; fewer bars are said over and over.
        chord_tones_only: forbid all other pitches as well; that is enforced.
        enforce: keep density, polyphony and velocity by limits in place of asking, whatever the model learnt: each
            bar's notes within a fifth of the density, as many voices where a note begins, velocities within eight;
            chords too where chord_tones_only is asked.
        key: of the whole request.
        style: a name of STYLES.
        composer: a name of COMPOSERS.
    """

    density: float | None = None
    polyphony: float | None = None
    velocity: float | None = None
    chords: tuple[tuple[Chord, ...], ...] = ()
    key: Key | None = None
    style: str | None = None
    composer: str | None = None
    chord_tones_only: bool = False
    enforce: bool = False

    def __post_init__(self) -> None:
        _check(self.density, "density", 0, MOST_DENSITY, "notes a quarter")
        _check(self.polyphony, "polyphony", 1, MOST_POLYPHONY, "notes at once")
        _check(self.velocity, "velocity", 1, 127, "")
        if any(quality_of(chord) is None for bar in self.chords for chord in bar):
            raise ControlError(f"there is no token for such a chord; use one of {', '.join(QUALITIES)}")
        if any(not bar for bar in self.chords):
            raise ControlError("a bar of the chords is empty; write at least one chord in each, such as 'C | Am F'")
        if self.chord_tones_only and not self.chords:
            raise ControlError("chord tones alone are asked for, but no chords are given; give both, or neither")
        given = (self.density, self.polyphony, self.velocity)
        if self.enforce and given == (None, None, None) and not self.chord_tones_only:
            raise ControlError(
                "nothing is given that could be enforced; give a density, a polyphony, a velocity or chord tones only"
            )
        _check_tag(self.style, "style", STYLES)
        _check_tag(self.composer, "composer", COMPOSERS)

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of the controls that ask the model for something; what is enforced asks nothing."""
        return tuple(name for name in CONTROLS if name not in self.enforced and getattr(self, name) not in (None, ()))

    @property
    def enforced(self) -> tuple[str, ...]:
        """The names of the controls that are kept by limits alone."""
        if not self.enforce:
            return ()
        return (*ENFORCEABLE, "chords") if self.chord_tones_only else ENFORCEABLE

    def limits(self, given: Constraints) -> Constraints:
        """Return limits that keep what is enforced as well as what is given; raises ControlError where they clash."""
        if not self.enforce:
            return given
        limits = given if self.density is None else replace(given, notes_per_quarter=self.density)
        if self.polyphony is not None:
            most = min(ceil(self.polyphony), limits.max_polyphony or MAX_PITCHES)
            limits = replace(limits, max_polyphony=most, min_polyphony=min(floor(self.polyphony), most))
        if self.velocity is not None:
            softest, loudest = round(self.velocity) - _LOUDER, round(self.velocity) + _LOUDER
            limits = replace(
                limits,
                velocity_min=max(softest, limits.velocity_min),
                velocity_max=min(loudest, limits.velocity_max),
            )
        return limits


def _check(value: float | None, name: str, low: float, high: float, unit: str) -> None:
    if value is not None and not low <= value <= high:
        raise ControlError(f"a {name} of {value:g} is out of range; give {low:g} to {high:g}{' ' * bool(unit)}{unit}")


def _check_tag(value: str | None, name: str, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise ControlError(f"there is no {name} {value!r}; choose from {', '.join(known)}")


def chord_token(chord: Chord) -> int:
    """Return the token of a chord whose quality is one of QUALITIES."""
    quality = quality_of(chord)
    assert quality is not None
    return VOCAB.chord[chord.pitch_classes[0] * len(QUALITIES) + _QUALITY_NAMES.index(quality)]


def key_token(key: Key) -> int:
    """Return the token of a key."""
    return VOCAB.key[_MODES.index(key.mode) * len(PITCH_CLASSES) + key.tonic]


@dataclass(frozen=True, slots=True)
class Measure:
    """What the notes of a cell amount to, in the units of AttributeControls; None where there is no note to tell."""

    density: float
    polyphony: float | None
    velocity: float | None


def measure(notes: Sequence[Note], cell: GridCell) -> Measure:
    """Return density, mean polyphony and mean velocity of a cell's notes; what sounds past the cell is not counted."""
    density = len(notes) * GRID / (cell.end - cell.start)
    if not notes:
        return Measure(density, None, None)
    steps = cell.end - cell.start
    change = [0] * (steps + 1)
    for note in notes:
        change[note.onset - cell.start] += 1
        change[min(note.end - cell.start, steps)] -= 1
    sounding = [count for count in accumulate(change[:-1]) if count]
    velocity = sum(note.velocity for note in notes) / len(notes)
    return Measure(density, sum(sounding) / len(sounding), velocity)


def asked_tokens(
    controls: AttributeControls, cell: GridCell, *, chords: Iterable[ChordSpan] = (), bar_start: int
) -> tuple[int, ...]:
    """Return what a cell's header says of these controls; what is enforced is not said. `chords` are in steps."""
    return request_tokens(controls) + cell_tokens(
        cell,
        density=None if controls.enforce else controls.density,
        polyphony=None if controls.enforce else controls.polyphony,
        velocity=None if controls.enforce else controls.velocity,
        chords=() if "chords" in controls.enforced else chords,
        bar_start=bar_start,
    )


def request_tokens(controls: AttributeControls) -> tuple[int, ...]:
    """Return KEY, STYLE and COMPOSER, which every cell of a request says."""
    tokens: list[int] = []
    if controls.key is not None:
        tokens.append(key_token(controls.key))
    if controls.style is not None:
        tokens.append(VOCAB.style[STYLES.index(controls.style)])
    if controls.composer is not None:
        tokens.append(VOCAB.composer[COMPOSERS.index(controls.composer)])
    return tuple(tokens)


def cell_tokens(
    cell: GridCell,
    *,
    density: float | None = None,
    polyphony: float | None = None,
    velocity: float | None = None,
    chords: Iterable[ChordSpan] = (),
    bar_start: int = 0,
) -> tuple[int, ...]:
    """Return what a cell's header says of it: DENSITY, POLYPHONY, VELRANGE, then CHORD; at each change POS CHORD."""
    tokens: list[int] = []
    if density is not None:
        tokens.append(density_token(density))
    if polyphony is not None:
        tokens.append(polyphony_token(polyphony))
    if velocity is not None:
        tokens.append(velocity_token(velocity))
    said = -1
    for span in chords:
        if span.start >= cell.end or span.end <= cell.start or (token := chord_token(span.chord)) == said:
            continue
        if said >= 0:
            tokens.append(VOCAB.position.start + span.start - bar_start)
        tokens.append(token)
        said = token
    return tuple(tokens)


def read_chords(text: str) -> tuple[tuple[Chord, ...], ...]:
    """Return the chords of each bar that a text like 'C | Am F | G7' names; raises ControlError."""
    bars = tuple(tuple(read_chord(name) for name in bar.split()) for bar in text.strip().strip("|").split("|"))
    if not all(bars):
        raise ControlError(f"a bar of the chords {text!r} is empty; write chords in each, such as 'C | Am F | G7'")
    return bars


def chord_spans(chords: Sequence[Sequence[Chord]], bars: Sequence[Bar]) -> tuple[ChordSpan, ...]:
    """Return where the chords sound: each bar's evenly spread over it, over and over until the bars end.

    Raises ControlError where there are chords for more bars than there are.
    """
    if len(chords) > len(bars):
        raise ControlError(f"there are chords for {len(chords)} bars, the region has {len(bars)}; leave some out")
    spans: list[ChordSpan] = []
    for number, bar in enumerate(bars):
        here = chords[number % len(chords)]
        edges = [bar.start + (bar.end - bar.start) * i // len(here) for i in range(len(here) + 1)]
        spans += [ChordSpan(edges[i], edges[i + 1], chord) for i, chord in enumerate(here)]
    return tuple(spans)


def split_at_chords(cell: GridCell, chords: Iterable[ChordSpan]) -> list[GridCell]:
    """Return the cell cut where a chord begins."""
    edges = sorted({cell.start, cell.end, *(span.start for span in chords if cell.start < span.start < cell.end)})
    return [replace(cell, start=start, end=end) for start, end in pairwise(edges)]


def learnt(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a checkpoint's info that says what may be asked: controls, tags it has met, single fields."""
    data = info.get("data", {})
    return {
        "controls": list(info.get("controls", ())),
        "fields": list(info.get("fields", ())),
        "data": {tags: dict(data[tags]) for tags in ("styles", "composers") if tags in data},
    }


def check_known(controls: AttributeControls, info: Mapping[str, Any], *, only: NoteField | None = None) -> None:
    """Raise ControlError where a checkpoint's info does not say that it learnt what is asked for."""
    said = learnt(info)
    if only and only not in said["fields"]:
        raise ControlError(f"this model was not trained to change the {only} of notes alone; let it fill the region")
    missing = [name for name in controls.asked if name not in said["controls"]]
    if missing:
        raise ControlError(
            f"this model was not trained to follow {', '.join(missing)}; "
            + (f"it follows {', '.join(said['controls'])}" if said["controls"] else "it keeps hard limits only")
            + "; density, polyphony, velocity and chord tones can be enforced as limits (enforce)"
        )
    for name, asked, met in (
        ("style", controls.style, said["data"].get("styles")),
        ("composer", controls.composer, said["data"].get("composers")),
    ):
        if asked is not None and met is not None and asked not in met:
            raise ControlError(f"this model was trained on no {name} {asked!r}; it knows {', '.join(met)}")
