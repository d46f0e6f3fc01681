"""Turn the values of the page's form into a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from harmonixr_model.grammar.control import Control
from harmonixr_model.prompt.controls import CONTROLS
from harmonixr_platform.schemas import DEFAULT_TEMPERATURE, InfillRequest, InspectResponse, TrackView

COPY_STRENGTH = 1.0
# The controls that the page offers, those with a menu first.
PAGE_CONTROLS: tuple[Control, ...] = tuple(sorted((c for c in CONTROLS if c.label), key=lambda c: not c.choices))


class FormError(ValueError):
    """A field holds a value that cannot be requested; the message is one sentence to show."""


@dataclass(frozen=True, slots=True)
class Form:
    """The values of the form. Bars and tracks count from 1. Optional fields are text, empty where nothing is given."""

    first: float | None
    last: float | None
    tracks: Sequence[int]
    n: float = 1
    temperature: float = DEFAULT_TEMPERATURE
    seed: str = ""
    only: str = ""
    copy_strength: float = COPY_STRENGTH
    controls: Mapping[str, str | None] = field(default_factory=dict)


def infill_request(form: Form, midi_base64: str) -> InfillRequest:
    """Return the request. Raises FormError with a sentence that names the remedy."""
    if form.first is None or form.last is None:
        raise FormError("Give the bars to fill: a first and a last bar.")
    first, last = int(form.first), int(form.last)
    if first > last:
        raise FormError(f"The first bar ({first}) comes after the last ({last}); swap them.")
    if not form.tracks:
        raise FormError("Choose at least one track to fill.")
    try:
        return InfillRequest.model_validate(
            {
                "midi_base64": midi_base64,
                "region": {"bars": f"{first}-{last}", "tracks": sorted(form.tracks)},
                "controls": {"only": form.only or None} | _controls(form.controls),
                # A slider that nobody moved is left out, so that the service uses its own default.
                "sampling": {
                    "n": int(form.n),
                    "temperature": None if form.temperature == DEFAULT_TEMPERATURE else form.temperature,
                    "seed": _whole("seed", form.seed),
                    "copy_strength": None if form.copy_strength == COPY_STRENGTH else form.copy_strength,
                },
            }
        )
    except ValidationError as error:
        first_error = error.errors()[0]
        name = _title(str(first_error["loc"][-1]))
        raise FormError(f"{name}: {first_error['msg'][:1].lower()}{first_error['msg'][1:]}.") from error


def default_gap(song: InspectResponse) -> tuple[int, int]:
    """Return the bars to mark at first: 5 to 8 where there are that many."""
    count = len(song.bars)
    return (5, 8) if count >= 8 else (max(1, count // 2), max(1, count // 2))


def track_label(track: TrackView) -> str:
    """Return a track's name as the page shows it."""
    return f"{track.number} · {track.name or ('Drums' if track.is_drum else 'Track')}"


def song_value(name: str, midi_base64: str, song: InspectResponse) -> dict[str, Any]:
    """Return the value of the song view before anything is filled."""
    return {"name": name, "midi_base64": midi_base64, "song": song.model_dump(mode="json"), "result": None}


def _controls(texts: Mapping[str, str | None]) -> dict[str, Any]:
    values = {control.name: _value(control, texts.get(control.name) or "") for control in PAGE_CONTROLS}
    # The page enforces density and chords: that works with every model.
    has_chords = values["chords"] is not None
    return values | {"chord_tones_only": has_chords, "enforce": has_chords or values["density"] is not None}


def _value(control: Control, text: str) -> float | str | None:
    if control.type is int:
        return _whole(control.name, text)
    if control.type is str or not text.strip():
        return text.strip() or None
    try:
        return float(text)
    except ValueError:
        raise FormError(
            f"{_title(control.name)}: write a number or leave it empty; {text.strip()!r} is neither."
        ) from None


def _whole(name: str, text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not text.isdecimal():
        raise FormError(f"{_title(name)}: {text!r} is not a whole number; write one, or leave the field empty.")
    return int(text)


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
