"""What a request means in a song: its region and its limits as the library's values. Knows no stage and no store."""

from __future__ import annotations

from harmonixr_model.music.harmony import read_key, scale_of
from harmonixr_model.music.region import Region
from harmonixr_model.music.regions_text import read_region
from harmonixr_model.music.song import Song
from harmonixr_model.tokens.rules import HardLimits
from harmonixr_platform.schemas import ControlSpec, RegionSpec


def resolve_region(spec: RegionSpec, song: Song) -> Region:
    """Return the region that a request means in this song; raises RegionError."""
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


def limits_of(controls: ControlSpec) -> HardLimits:
    """Return a request's controls as limits; raises ControlError where they contradict each other."""
    given = controls.model_dump(exclude={"key"}, exclude_none=True)
    if controls.key is not None:
        given["scale"] = tuple(sorted(scale_of(read_key(controls.key))))
    return HardLimits(**given)
