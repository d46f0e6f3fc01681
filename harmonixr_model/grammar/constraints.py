"""Constraints that every fill keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil, floor
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from harmonixr_model.errors import ControlError
from harmonixr_model.grammar.control import Control, check_field
from harmonixr_model.music.estimate import ChordSpan
from harmonixr_model.music.harmony import read_key, scale_of
from harmonixr_model.music.score import Bar
from harmonixr_model.notes.encoded_score import NoteField
from harmonixr_model.notes.grid import GRID
from harmonixr_model.notes.vocabulary import VELOCITY_BINS, velocity_bin

UNLIMITED = 1 << 14  # more notes, voices or steps than any prompt can hold; fits int16
_DENSITY_TOLERANCE = 0.2  # share by which a bar's notes may differ from the requested density
_TONICS = "C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"
KEYS = tuple(f"{tonic} {mode}" for mode in ("major", "minor") for tonic in _TONICS)
_PITCH: dict[str, Any] = {"low": 0, "high": 127, "applies_to": ("pitch",)}
_VELOCITY: dict[str, Any] = {"low": 1, "high": 127, "applies_to": ("velocity",)}
_COUNT: dict[str, Any] = {"low": 0, "high": 256}
# The first stored records had these controls. Most count notes, which a single-field fill does not change.
_original = partial(Control, is_always_hashed=True, applies_to=())


def read_scale(key: str) -> tuple[int, ...]:
    """Return the pitch classes of a key's scale."""
    return tuple(sorted(scale_of(read_key(key))))


@dataclass(frozen=True, slots=True)
class Constraints:
    """What every fill keeps. Raises ControlError where the constraints contradict each other.

    To add a constraint that a request can set, declare one more field: options, schema, form and checks derive from it.

    Counts of notes include locked notes. Pitch range, scale and chords apply to pitched tracks, not to drums.

    Attributes not declared as controls:
        chords: spans in absolute steps whose chord tones alone are allowed. A cell may use the tones of every chord it
            overlaps, so split cells where chords change.
        notes_per_quarter: the density of each bar, within a fifth.
        min_polyphony: where a note begins, others join until so many sound, as long as a higher pitch is free.
    """

    pitch_min: Annotated[int, _original("lowest MIDI pitch (60 is middle C)", **_PITCH, label="Lowest pitch")] = 0
    pitch_max: Annotated[int, _original("highest MIDI pitch", **_PITCH, label="Highest pitch")] = 127
    scale: Annotated[
        tuple[int, ...] | None,
        _original(
            "tonic and mode; only notes of this scale",
            name="key",
            example="G major",
            choices=KEYS,
            label="Key",
            parse=read_scale,
            applies_to=("pitch",),
        ),
    ] = None
    max_polyphony: Annotated[
        int | None, _original("at most N notes of a track at once", low=1, high=32, label="Notes at once, at most")
    ] = None
    min_notes_per_bar: Annotated[
        int | None, _original("at least N notes of a track in a bar", **_COUNT, label="Notes a bar, at least")
    ] = None
    max_notes_per_bar: Annotated[
        int | None, _original("at most N notes of a track in a bar", **_COUNT, label="Notes a bar, at most")
    ] = None
    velocity_min: Annotated[int, _original("softest velocity, 1-127", **_VELOCITY)] = 1
    velocity_max: Annotated[int, _original("loudest velocity, 1-127", **_VELOCITY)] = 127
    chords: tuple[ChordSpan, ...] = ()
    notes_per_quarter: float | None = None
    min_polyphony: int = 0

    def __post_init__(self) -> None:
        _check_range("pitch", self.pitch_min, self.pitch_max, lowest=0)
        _check_range("velocity", self.velocity_min, self.velocity_max, lowest=1)
        if self.scale is not None and (not self.scale or not all(0 <= c < 12 for c in self.scale)):
            raise ControlError(f"the scale {self.scale} is empty or names no pitch class; give numbers 0-11, 0 is C")
        if self.max_polyphony is not None and self.max_polyphony < 1:
            raise ControlError(f"a polyphony of {self.max_polyphony} allows no note; give 1 or more")
        least, most = self.min_notes_per_bar or 0, self.max_notes_per_bar
        if least < 0 or (most is not None and most < 0):
            raise ControlError("notes per bar cannot be negative; give 0 or more")
        if self.max_polyphony is not None and self.min_polyphony > self.max_polyphony:
            raise ControlError(
                f"at least {self.min_polyphony} and at most {self.max_polyphony} notes at once cannot both hold; "
                "give min <= max"
            )
        if self.notes_per_quarter is not None and not 0 <= self.notes_per_quarter <= GRID:
            raise ControlError(f"{self.notes_per_quarter:g} notes a quarter are out of range; give 0 to {GRID}")
        if most is not None and least > most:
            raise ControlError(f"at least {least} and at most {most} notes a bar cannot both hold; give min <= max")

    def notes_in(self, bar: Bar) -> tuple[int, int]:
        """Return the least and the most notes of a grid bar, UNLIMITED where there is no limit."""
        least, most = self.min_notes_per_bar or 0, UNLIMITED
        if self.notes_per_quarter is not None:
            about = self.notes_per_quarter * (bar.end - bar.start) / GRID
            least = max(least, ceil(about * (1 - _DENSITY_TOLERANCE) - 1e-9))
            most = max(least, floor(about * (1 + _DENSITY_TOLERANCE) + 1e-9))
        if self.max_notes_per_bar is not None:
            most = min(most, self.max_notes_per_bar)
        return least, most

    @property
    def pitches(self) -> npt.NDArray[np.bool_]:
        """Which of the 128 pitches the range and the scale allow a pitched track."""
        allowed = np.zeros(128, dtype=bool)
        allowed[self.pitch_min : self.pitch_max + 1] = True
        if self.scale is not None:
            allowed &= np.isin(np.arange(128) % 12, self.scale)
        return allowed

    @property
    def binds_pitch(self) -> bool:
        """Whether a pitch range, a scale or chords are given."""
        return (self.pitch_min, self.pitch_max) != (0, 127) or self.scale is not None or bool(self.chords)

    def chord_tones(self, start: int, end: int) -> npt.NDArray[np.bool_]:
        """Return which of the 128 pitches the chords allow over [start, end): all where none is given."""
        chords = [span.chord for span in self.chords if span.start < end and start < span.end]
        if not chords:
            return np.ones(128, dtype=bool)
        return np.isin(np.arange(128) % 12, [tone for chord in chords for tone in chord.pitch_classes])

    def check_field(self, field: NoteField) -> None:
        """Raise ControlError where a constraint does not apply to fills of one note field."""
        check_field(self, field)
        if self.chords and field != "pitch":
            raise ControlError(f"chords do not apply where only the {field} of notes may change; leave them out")

    @property
    def velocity_bins(self) -> npt.NDArray[np.bool_]:
        """Which velocity bins contain an allowed velocity; decoding clamps to the range."""
        bins = np.arange(VELOCITY_BINS)
        return (bins >= velocity_bin(self.velocity_min)) & (bins <= velocity_bin(self.velocity_max))


def _check_range(what: str, low: int, high: int, *, lowest: int) -> None:
    if not lowest <= low <= high <= 127:
        raise ControlError(
            f"the {what} range {low}-{high} is empty or out of range; give min <= max within {lowest}-127"
        )
