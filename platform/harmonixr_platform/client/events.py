"""Parse the server-sent events of a fill from lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from pydantic import ValidationError

from harmonixr_platform.client.errors import ServiceError
from harmonixr_platform.schemas import INFILL_EVENTS, InfillDone, InfillEvent, Problem

SSE_TYPE = "text/event-stream"


def read_events(lines: Iterable[str]) -> Iterator[InfillEvent]:
    """Yield the events up to InfillDone; raises ServiceError for an error event or an early end of the stream."""
    name, data = "", ""
    for line in lines:
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data = line.removeprefix("data:").strip()
        elif not line and name:
            event = _event(name, data)
            if event is not None:
                yield event
            if isinstance(event, InfillDone):
                return
            name, data = "", ""
    # Status 502 without a problem: a proxy broke the stream, and a retry helps.
    raise ServiceError("the stream ended before the fill was done; try again", status=502)


def _event(name: str, data: str) -> InfillEvent | None:
    try:
        if name == "error":
            problem = Problem.model_validate_json(data)
            raise ServiceError(problem.detail, status=problem.status, problem=problem)
        # Unknown events of a later version of the service are ignored.
        kind = INFILL_EVENTS.get(name)
        return cast(InfillEvent, kind.model_validate_json(data)) if kind else None
    except ValidationError as error:
        detail = "the service has another version than this client; update both"
        raise ServiceError(detail, status=400) from error
