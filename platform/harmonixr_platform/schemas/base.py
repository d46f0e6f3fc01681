"""The base class of all schemas, canonical JSON for content hashes, and the error format."""

import json
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_jsonable_python


class Strict(BaseModel):
    """An immutable model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), serialize_by_alias=True)
    # Fields that were added after records of this kind were stored; at their default they are not part of the content.
    later_fields: ClassVar[frozenset[str]] = frozenset()


def content_json(model: Strict, *, without: frozenset[str] = frozenset()) -> str:
    """Return the canonical JSON of a record for its hash; a later field at its default is not included.

    `without` names fields of the record to leave out.
    """
    content = {name: value for name, value in _content(model).items() if name not in without}
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
    """An error in the format `application/problem+json` (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[dict[str, str], ...] = ()
