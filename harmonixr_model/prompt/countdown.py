"""The notes and voices that a fill still needs to reach the density and polyphony controls of its cell.

Small models hardly learn to count the notes they have emitted. A countdown on every token they learn at once, as
summaries learn to end at a given length (Takase and Okazaki 2019, "Positional Encoding to Control Output Sequence
Length").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harmonixr_model.notes.grid import GRID
from harmonixr_model.notes.vocabulary import DURATIONS, VOCAB
from harmonixr_model.prompt.control_values import density_of, polyphony_of

# The distinct values of the coordinates; values beyond are clipped to the ends.
NOTES_LEFT = range(-2, 21)
HALF_VOICES_LACKING = range(-4, 13)
COUNTDOWN_SIZE = len(NOTES_LEFT) + len(HALF_VOICES_LACKING)
# (index in NOTES_LEFT, index in HALF_VOICES_LACKING), each from 1; 0 without such a control.
NO_COUNTDOWN = (0, 0)

_HOLD, _FILL = VOCAB.id("HOLD"), VOCAB.id("FILL")


@dataclass(slots=True)
class Countdown:
    """The countdown of one fill, token by token; `steps` are the lengths of its cells in fill order.

    Notes held into a cell (HOLD) do not count, as in `controls.measure`.
    """

    steps: Sequence[int] = ()
    _cell: int = -1
    _notes_left: int | None = None
    _half_voices: int | None = None
    _step: int = 0
    _ends: list[int] = field(default_factory=list)
    _is_held: bool = False

    @property
    def values(self) -> tuple[int, int]:
        """The two coordinates."""
        left = lacking = 0
        if self._notes_left is not None:
            left = 1 + _clipped(self._notes_left, NOTES_LEFT)
        if self._half_voices is not None:
            lacking = 1 + _clipped(self._half_voices - 2 * len(self._ends), HALF_VOICES_LACKING)
        return left, lacking

    def advance(self, token: int) -> None:
        """Take one token of a fill."""
        if token == _FILL:
            self._cell += 1
            self._notes_left = self._half_voices = None
            self._ends.clear()
        elif token in VOCAB.density and self._cell < len(self.steps):
            self._notes_left = round(density_of(token) * self.steps[self._cell] / GRID)
        elif token in VOCAB.polyphony:
            self._half_voices = round(2 * polyphony_of(token))
        elif self._notes_left is not None or self._half_voices is not None:
            self._count(token)

    def _count(self, token: int) -> None:
        if token == _HOLD:
            self._is_held = True
        elif token in VOCAB.position:
            self._step = VOCAB.position.index(token)
            self._ends = [end for end in self._ends if end > self._step]
        elif token in VOCAB.duration:
            if not self._is_held and self._ends:
                self._ends[-1] = self._step + DURATIONS[VOCAB.duration.index(token)]
            self._is_held = False
        elif token in VOCAB.pitch and not self._is_held:
            # It sounds from here; DUR gives its end.
            self._ends.append(self._step + 1)
            if self._notes_left is not None:
                self._notes_left -= 1


def _clipped(value: int, values: range) -> int:
    return min(max(value, values[0]), values[-1]) - values[0]
