"""What every schema is made from. Knows nothing of music."""

import json
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_jsonable_python


class Strict(BaseModel):
    """Unknown keys fail; records never change after they are made."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), serialize_by_alias=True)
    # Fields added after records of this kind were stored: while they say nothing, they are no part of its content.
    later_fields: ClassVar[frozenset[str]] = frozenset()


def content_json(model: Strict, *, without: frozenset[str] = frozenset()) -> str:
    """Return what a record says as one canonical text, to be hashed: a later field that says nothing changes nothing.

    `without` names fields of the record itself to leave out.
    """
    content = {name: said for name, said in _content(model).items() if name not in without}
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _content(value: Any) -> Any:
    if isinstance(value, Strict):
        fields, later = type(value).model_fields, type(value).later_fields
        return {
            field.serialization_alias or name: _content(getattr(value, name))
            for name, field in fields.items()
            if name not in later or getattr(value, name) != field.get_default(call_default_factory=True)
        }
    if isinstance(value, dict):
        return {to_jsonable_python(key): _content(field) for key, field in value.items()}
    if isinstance(value, list | tuple):
        return [_content(field) for field in value]
    return to_jsonable_python(value)


class Problem(Strict):
    """An error as RFC 9457 `application/problem+json` says it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[dict[str, str], ...] = ()
