"""The declaration of a control, from which the command line, the HTTP schema, the page's form and the checks derive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from harmonixr_model.errors import ControlError
from harmonixr_model.music.score import Note
from harmonixr_model.notes.encoded_score import GridCell, NoteField

Values = TypeVar("Values")


@dataclass(frozen=True, slots=True)
class Control:
    """One control of a fill, declared in the annotation of a field of `Constraints` or `AttributeControls`."""

    help: str  # a phrase for the command line and the HTTP documentation
    _: KW_ONLY
    # In HTTP requests and stored records; by default the annotated field's. Command-line options write hyphens.
    name: str = ""
    type: type = str  # int, float, str or bool, as a request holds the value; read from the annotation
    low: float | None = None  # both ends included
    high: float | None = None
    unit: str = ""  # of a number, for messages
    example: str = ""  # of a text
    choices: Sequence[str] = ()  # texts that a form offers
    label: str = ""  # on the page's form; a control without one is not offered there
    parse: Callable[[str], Any] | None = None  # turns a requested text into the library's value
    applies_to: tuple[NoteField, ...] | None = None  # note fields it affects in single-field fills; None is all
    trained_as: str = ""  # the name by which a checkpoint lists that its model was trained to follow the control
    training_chance: float = 0  # how often a training example that has controls includes this one
    token: Callable[[Any], int] | None = None  # gives a value's token in the header of a cell
    measure: Callable[[Sequence[Note], GridCell], float | None] | None = None  # computes the value from a cell's notes
    # Whether a record's content hash includes the control where a request leaves it out: the first records' controls.
    is_always_hashed: bool = False

    def check(self, value: Any) -> None:
        """Raise ControlError where a value is out of range or names none of the choices."""
        if self.low is not None and self.high is not None and value is not None and not self.low <= value <= self.high:
            unit = f" {self.unit}" if self.unit else ""
            raise ControlError(f"a {self.name} of {value:g} is out of range; give {self.low:g} to {self.high:g}{unit}")
        if self.choices and isinstance(value, str) and value not in self.choices:
            raise ControlError(f"there is no {self.name} {value!r}; choose from {', '.join(self.choices)}")


def controls_of(kind: type) -> dict[str, Control]:
    """Return the controls in the annotations of a dataclass, by name of field."""
    return _read_annotations(kind)  # type checkers take no class that defines __hash__ as an argument of `cache`


@cache
def _read_annotations(kind: type) -> dict[str, Control]:
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for control in get_args(hint)[1:]:
            if isinstance(control, Control):
                accepted = get_args(get_args(hint)[0]) or get_args(hint)[:1]
                plain = next((type_ for type_ in (bool, int, float) if type_ in accepted), str)
                found[name] = replace(control, name=control.name or name, type=plain)
    return found


def read_controls(kind: type[Values], request: Mapping[str, Any]) -> Values:
    """Return the Constraints or AttributeControls of a request; a control that is None or absent keeps its default.

    Raises ControlError where a value cannot be read or is out of range.
    """
    given: dict[str, Any] = {}
    for attribute, control in controls_of(kind).items():
        value = request.get(control.name)
        if value is not None:
            given[attribute] = control.parse(value) if control.parse else value
    return kind(**given)


def check_field(values: Any, field: NoteField) -> None:
    """Raise ControlError where a given control does not apply to fills that change one field of the notes."""
    for attribute in fields(values):
        control = controls_of(type(values)).get(attribute.name)
        if control is None or control.applies_to is None or field in control.applies_to:
            continue
        if getattr(values, attribute.name) != attribute.default:
            raise ControlError(
                f"{control.name} does not apply where only the {field} of notes may change; leave it out"
            )
