"""What a request means in a song: region, limits, controls and sampling as the library's values.

Knows no stage and no store.
"""

from __future__ import annotations

from harmonixr_model.engine.engine import Sampling
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.music.harmony import read_key, scale_of
from harmonixr_model.music.region import Region
from harmonixr_model.music.region_text import read_region
from harmonixr_model.music.song import Song
from harmonixr_model.prompt.controls import AttributeControls, read_chords
from harmonixr_platform.schemas import ControlSpec, RegionSpec, SamplingSpec

_LIMITS = {
    *("pitch_min", "pitch_max", "max_polyphony", "min_notes_per_bar", "max_notes_per_bar"),
    *("velocity_min", "velocity_max"),
}


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


def limits_of(controls: ControlSpec) -> Constraints:
    """Return a request's controls as limits; raises ControlError where they contradict each other."""
    given = controls.model_dump(include=_LIMITS, exclude_none=True)
    if controls.key is not None:
        given["scale"] = tuple(sorted(scale_of(read_key(controls.key))))
    return Constraints(**given)


def sampling_of(spec: SamplingSpec) -> Sampling:
    """Return how a request's fills are drawn; its counts and its seed are another's matter."""
    return Sampling(
        temperature=spec.temperature,
        top_k=spec.top_k,
        top_p=spec.top_p,
        guidance=spec.guidance,
        copy_strength=1.0 if spec.copy_strength is None else spec.copy_strength,
    )


def soft_of(controls: ControlSpec) -> AttributeControls:
    """Return what a request asks of the model softly; raises ControlError where it cannot be said."""
    return AttributeControls(
        density=controls.density,
        polyphony=controls.polyphony,
        velocity=controls.velocity,
        chords=() if controls.chords is None else read_chords(controls.chords),
        chord_tones_only=controls.chord_tones_only,
        enforce=controls.enforce,
        key=None if controls.key_hint is None else read_key(controls.key_hint),
        style=controls.style,
        composer=controls.composer,
    )
