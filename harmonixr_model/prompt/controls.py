"""Attribute controls: requested properties that condition the model, as tokens in the header of each cell.

Training computes the same tokens from the target, so that requested and measured values have the same meaning. A model
follows attribute controls as well as it was trained to. `Constraints` hold for every fill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Annotated, Any

from harmonixr_model.errors import ControlError
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.grammar.control import Control, check_field, controls_of
from harmonixr_model.music.estimate import ChordSpan
from harmonixr_model.music.harmony import QUALITIES, Chord, Key, quality_of, read_key
from harmonixr_model.notes.encoded_score import GridCell, NoteField
from harmonixr_model.notes.vocabulary import COMPOSERS, STYLES, VOCAB
from harmonixr_model.prompt.chords import read_chords
from harmonixr_model.prompt.control_values import (
    MAX_DENSITY,
    MAX_MEAN_POLYPHONY,
    chord_token,
    composer_token,
    density_token,
    key_token,
    mean_velocity_token,
    measure_density,
    measure_polyphony,
    measure_velocity,
    polyphony_token,
    style_token,
)

ENFORCEABLE = ("density", "polyphony", "velocity")
MAX_PITCHES = 128
_VELOCITY_TOLERANCE = 8  # enforced velocities differ from the requested mean by at most this


@dataclass(frozen=True, slots=True)
class AttributeControls:
    """The requested attribute controls. Raises ControlError where a value is out of range or has no token.

    To add a control, declare one more field: options, schema, form and checks derive from it.

    `chords` holds the chords of each bar, evenly spread over the bar. `enforce` turns density, polyphony and velocity
    into constraints, which any model keeps, and with `chord_tones_only` chords too: each bar's notes are within a fifth
    of the density, as many voices sound where a note begins, and velocities are within eight.
    """

    density: Annotated[
        float | None,
        Control(
            "about N notes a quarter in every track",
            low=0,
            high=MAX_DENSITY,
            unit="notes a quarter",
            label="Notes a quarter, about",
            applies_to=(),
            trained_as="density",
            training_chance=0.6,
            token=density_token,
            measure=measure_density,
        ),
    ] = None
    polyphony: Annotated[
        float | None,
        Control(
            "about N notes of a track at once while any sounds",
            low=1,
            high=MAX_MEAN_POLYPHONY,
            unit="notes at once",
            applies_to=("rhythm", "duration"),
            trained_as="polyphony",
            training_chance=0.6,
            token=polyphony_token,
            measure=measure_polyphony,
        ),
    ] = None
    velocity: Annotated[
        float | None,
        Control(
            "a mean velocity of about N, 1-127",
            low=1,
            high=127,
            applies_to=("velocity",),
            trained_as="velocity",
            training_chance=0.5,
            token=mean_velocity_token,
            measure=measure_velocity,
        ),
    ] = None
    chords: Annotated[
        tuple[tuple[Chord, ...], ...],
        Control(
            "the chords of each bar, bars separated by |, repeated over the region",
            example="C | Am F | G7",
            label="Only tones of these chords, bar by bar",
            parse=read_chords,
            applies_to=("pitch",),
            trained_as="chords",
            training_chance=0.5,
        ),
    ] = ()
    chord_tones_only: Annotated[bool, Control("only tones of the chords, as a constraint")] = False
    key_hint: Annotated[
        Key | None,
        Control(
            "a key; `key` enforces its scale",
            example="G major",
            parse=read_key,
            applies_to=("pitch",),
            trained_as="key",
            training_chance=0.3,
            token=key_token,
        ),
    ] = None
    enforce: Annotated[
        bool, Control("keep density, polyphony, velocity and chord tones as constraints, with any model")
    ] = False
    style: Annotated[
        str | None,
        Control(
            "a style that the model was trained on, such as pop",
            choices=STYLES,
            trained_as="style",
            training_chance=0.5,
            token=style_token,
        ),
    ] = None
    composer: Annotated[
        str | None,
        Control(
            "a composer that the model was trained on, such as Schubert",
            choices=COMPOSERS,
            trained_as="composer",
            training_chance=0.4,
            token=composer_token,
        ),
    ] = None

    def __post_init__(self) -> None:
        for attribute, control in controls_of(type(self)).items():
            control.check(getattr(self, attribute))
        if any(quality_of(chord) is None for bar in self.chords for chord in bar):
            raise ControlError(f"there is no token for such a chord; use one of {', '.join(QUALITIES)}")
        if any(not bar for bar in self.chords):
            raise ControlError("a bar of the chords is empty; write at least one chord in each, such as 'C | Am F'")
        if self.chord_tones_only and not self.chords:
            raise ControlError("chord_tones_only needs chords, and no chords are given; give both, or neither")
        if self.enforce and not self.chord_tones_only and all(getattr(self, name) is None for name in ENFORCEABLE):
            raise ControlError(
                "nothing is given that could be enforced; give a density, a polyphony, a velocity or chord tones only"
            )

    @property
    def conditioning(self) -> dict[str, Any]:
        """The requested controls that condition the model, by name in TRAINED; an enforced control does not."""
        return {
            control.trained_as: value
            for attribute, control in controls_of(type(self)).items()
            if control.trained_as and attribute not in self.enforced
            if (value := getattr(self, attribute)) not in (None, ())
        }

    @property
    def enforced(self) -> tuple[str, ...]:
        """The names of the controls that are constraints alone."""
        if not self.enforce:
            return ()
        return (*ENFORCEABLE, "chords") if self.chord_tones_only else ENFORCEABLE

    def constraints(self, given: Constraints) -> Constraints:
        """Return the given constraints and the enforced controls together; raises ControlError where they clash."""
        if not self.enforce:
            return given
        found = given if self.density is None else replace(given, notes_per_quarter=self.density)
        if self.polyphony is not None:
            most = min(ceil(self.polyphony), found.max_polyphony or MAX_PITCHES)
            found = replace(found, max_polyphony=most, min_polyphony=min(floor(self.polyphony), most))
        if self.velocity is not None:
            softest, loudest = round(self.velocity) - _VELOCITY_TOLERANCE, round(self.velocity) + _VELOCITY_TOLERANCE
            found = replace(
                found,
                velocity_min=max(softest, found.velocity_min),
                velocity_max=min(loudest, found.velocity_max),
            )
        return found

    def check_field(self, field: NoteField) -> None:
        """Raise ControlError where a requested control does not apply to fills of one note field."""
        check_field(self, field)


CONTROLS: tuple[Control, ...] = (*controls_of(Constraints).values(), *controls_of(AttributeControls).values())
# The attribute controls by the names under which checkpoints list them.
TRAINED: dict[str, Control] = {control.trained_as: control for control in CONTROLS if control.trained_as}


def attribute_tokens(
    values: Mapping[str, Any], cell: GridCell, *, chords: Iterable[ChordSpan] = (), bar_start: int = 0
) -> tuple[int, ...]:
    """Return the tokens of a cell's controls: KEY STYLE COMPOSER DENSITY POLYPHONY VELRANGE CHORD [POS CHORD]*.

    `values` are by name in TRAINED; those that are None or absent have no token. `chords` are in steps.
    """
    # First the controls that all cells of a request share.
    ordered = sorted(TRAINED.items(), key=lambda item: item[1].measure is not None)
    tokens = [c.token(value) for name, c in ordered if c.token and (value := values.get(name)) is not None]
    last = -1
    for span in chords:
        if span.start >= cell.end or span.end <= cell.start or (token := chord_token(span.chord)) == last:
            continue
        if last >= 0:
            tokens.append(VOCAB.position.start + span.start - bar_start)
        tokens.append(token)
        last = token
    return tuple(tokens)


def supported_controls(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint's info lists of its training: controls, tags and single fields."""
    data = info.get("data", {})
    return {
        "controls": list(info.get("controls", ())),
        "fields": list(info.get("fields", ())),
        "data": {tags: dict(data[tags]) for tags in ("styles", "composers") if tags in data},
    }


def check_supported(controls: AttributeControls, info: Mapping[str, Any], *, only: NoteField | None = None) -> None:
    """Raise ControlError where a checkpoint's info does not list a requested control, tag or single field."""
    supported = supported_controls(info)
    if only and only not in supported["fields"]:
        raise ControlError(f"this model was not trained to change the {only} of notes alone; let it fill the region")
    names = [TRAINED[name].name for name in supported["controls"] if name in TRAINED]
    if missing := [TRAINED[name].name for name in controls.conditioning if name not in supported["controls"]]:
        raise ControlError(
            f"this model was not trained to follow {', '.join(missing)}; "
            + (f"it follows {', '.join(names)}" if names else "it keeps constraints only")
            + "; density, polyphony, velocity and chord tones can be enforced as constraints (enforce)"
        )
    for name, tag, known in (
        ("style", controls.style, supported["data"].get("styles")),
        ("composer", controls.composer, supported["data"].get("composers")),
    ):
        if tag is not None and known is not None and tag not in known:
            raise ControlError(f"this model was trained on no {name} {tag!r}; it knows {', '.join(known)}")
