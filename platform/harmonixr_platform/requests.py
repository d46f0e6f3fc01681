"""A request's region, constraints, attribute controls and sampling as the library's values."""

from __future__ import annotations

from dataclasses import fields

from harmonixr_model.engine.engine import Sampling
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.control import read_controls
from harmonixr_model.music.region import Region
from harmonixr_model.music.region_text import read_region
from harmonixr_model.music.song import Song
from harmonixr_model.prompt.controls import AttributeControls
from harmonixr_platform.schemas import ControlSpec, RegionSpec, SamplingSpec


def resolve_region(spec: RegionSpec, song: Song) -> Region:
    """Return the region of a request in this song; raises RegionError."""
    return read_region(
        song,
        bars=spec.bars,
        beats=spec.beats,
        ticks=spec.ticks,
        continue_bars=spec.continue_bars,
        tracks=spec.tracks,
        pitch_low=spec.pitch_low,
        pitch_high=spec.pitch_high,
        locks=[(lock.track, lock.onset_tick, lock.pitch) for lock in spec.locks],
    )


def constraints_of(controls: ControlSpec) -> Constraints:
    """Return a request's constraints; raises ControlError where they contradict each other."""
    return read_controls(Constraints, dict(controls))


def attribute_controls_of(controls: ControlSpec) -> AttributeControls:
    """Return a request's attribute controls; raises ControlError where one has no token."""
    return read_controls(AttributeControls, dict(controls))


def sampling_of(spec: SamplingSpec) -> Sampling:
    """Return a request's sampling settings without its counts and seed; a setting that is None keeps its default."""
    settings = {setting.name: getattr(spec, setting.name) for setting in fields(Sampling)}
    return Sampling(**{name: value for name, value in settings.items() if value is not None})
