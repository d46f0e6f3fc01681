"""Requests and responses for the contents of a MIDI file and its audio."""

from typing import Annotated

from pydantic import Field

from harmonixr_platform.schemas.base import Strict
from harmonixr_platform.schemas.infill import PlacedNote


class InspectRequest(Strict):
    """Request the contents of a MIDI file."""

    midi_base64: str = Field(description="a standard MIDI file, base64")


class BarView(Strict):
    """One bar: `number` from 1, ticks [start, end) and the second at which it starts."""

    number: int
    start_tick: int
    end_tick: int
    start_s: float
    numerator: int
    denominator: int


class TrackView(Strict):
    """One track with notes: `number` from 1."""

    number: int
    name: str
    program: Annotated[int, Field(ge=0, le=127)]
    is_drum: bool
    notes: int


class InspectResponse(Strict):
    """The bars, tracks and notes of a song."""

    ticks_per_quarter: int
    end_tick: int
    duration_s: float
    bars: tuple[BarView, ...]
    tracks: tuple[TrackView, ...]
    notes: tuple[PlacedNote, ...]


class PreviewRequest(Strict):
    """Request audio/wav of a MIDI file from `start_s` to `end_s` (None: to the end)."""

    midi_base64: str = Field(description="a standard MIDI file, base64")
    start_s: Annotated[float, Field(ge=0)] = 0.0
    end_s: Annotated[float, Field(gt=0)] | None = None
