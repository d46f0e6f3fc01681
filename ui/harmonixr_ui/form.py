"""Turn what the page's controls say into a request. Knows nothing of Gradio or HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from harmonixr_platform.schemas import DEFAULT_TEMPERATURE, InfillRequest, InspectResponse, TrackView

TONICS = "C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"
COPY_STRENGTH = 1.0
KEYS = tuple(f"{tonic} {mode}" for mode in ("major", "minor") for tonic in TONICS)


class FormError(ValueError):
    """A control holds what cannot be asked for: one sentence to show."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the controls say. Bars and tracks count from 1; optional numbers are text, empty where nothing is asked."""

    first: float | None
    last: float | None
    tracks: Sequence[int]
    n: float = 1
    temperature: float = DEFAULT_TEMPERATURE
    seed: str = ""
    key: str | None = None
    pitch_min: str = ""
    pitch_max: str = ""
    max_polyphony: str = ""
    min_notes_per_bar: str = ""
    max_notes_per_bar: str = ""
    density: str = ""
    chords: str = ""
    only: str = ""
    copy_strength: float = COPY_STRENGTH


def infill_request(form: Form, midi_base64: str) -> InfillRequest:
    """Return the request. Raises FormError with a sentence that says what would work."""
    if form.first is None or form.last is None:
        raise FormError("Say which bars to fill: a first and a last bar.")
    first, last = int(form.first), int(form.last)
    if first > last:
        raise FormError(f"The first bar ({first}) comes after the last ({last}); swap them.")
    if not form.tracks:
        raise FormError("Choose at least one track to fill.")
    limits = "pitch_min", "pitch_max", "max_polyphony", "min_notes_per_bar", "max_notes_per_bar"
    try:
        return InfillRequest.model_validate(
            {
                "midi_base64": midi_base64,
                "region": {"bars": f"{first}-{last}", "tracks": sorted(form.tracks)},
                "controls": {
                    "key": form.key or None,
                    "only": form.only or None,
                    "density": _number(form, "density"),
                    "chords": form.chords.strip() or None,
                    # As limits: that works with every model.
                    "chord_tones_only": bool(form.chords.strip()),
                    "enforce": bool(form.density.strip() or form.chords.strip()),
                }
                | {name: _whole(form, name) for name in limits},
                "sampling": {
                    "n": int(form.n),
                    # Untouched it is left to the kind of track.
                    "temperature": None if form.temperature == DEFAULT_TEMPERATURE else form.temperature,
                    "seed": _whole(form, "seed"),
                    # Untouched it says nothing: two blind fills of a chorus would be one.
                    "copy_strength": None if form.copy_strength == COPY_STRENGTH else form.copy_strength,
                },
            }
        )
    except ValidationError as error:
        first_error = error.errors()[0]
        name = _spoken(str(first_error["loc"][-1]))
        raise FormError(f"{name}: {first_error['msg'][:1].lower()}{first_error['msg'][1:]}.") from error


def default_gap(song: InspectResponse) -> tuple[int, int]:
    """Return the bars to mark at first: 5 to 8 where there are that many."""
    count = len(song.bars)
    return (5, 8) if count >= 8 else (max(1, count // 2), max(1, count // 2))


def track_label(track: TrackView) -> str:
    """Return a track's name as the page shows it."""
    return f"{track.number} · {track.name or ('Drums' if track.is_drum else 'Track')}"


def song_value(name: str, midi_base64: str, song: InspectResponse) -> dict[str, Any]:
    """Return what the song view shows before anything is filled."""
    return {"name": name, "midi_base64": midi_base64, "song": song.model_dump(mode="json"), "answer": None}


def _number(form: Form, name: str) -> float | None:
    text = getattr(form, name).strip()
    try:
        return float(text) if text else None
    except ValueError:
        raise FormError(f"{_spoken(name)}: write a number or leave it empty; {text!r} is neither.") from None


def _whole(form: Form, name: str) -> int | None:
    text = getattr(form, name).strip()
    if not text:
        return None
    if not text.isdecimal():
        raise FormError(f"{_spoken(name)}: {text!r} is not a whole number; write one, or leave the field empty.")
    return int(text)


def _spoken(name: str) -> str:
    return name.replace("_", " ").capitalize()
