"""The states of the song view while a fill is made: first its notes so far, then the response."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from harmonixr_platform.schemas import (
    CandidateView,
    InfillBar,
    InfillDone,
    InfillEvent,
    InfillRequest,
    InfillResponse,
    PlacedNote,
)
from harmonixr_ui.routes import roll_note

# Every update sends the whole view. The eye does not follow more updates than this.
PAUSE_S = 0.2


async def fill_states(
    request: InfillRequest, events: AsyncIterator[InfillEvent], *, pause_s: float = PAUSE_S
) -> AsyncIterator[dict[str, Any] | InfillResponse]:
    """Yield the first fill's notes so far, at most once in `pause_s`, and finally the whole response."""
    notes: list[PlacedNote] = []
    candidates: list[CandidateView] = []
    shown = float("-inf")
    async for event in events:
        if isinstance(event, CandidateView):
            candidates.append(event)
        elif isinstance(event, InfillDone):
            ordered = tuple(sorted(candidates, key=lambda candidate: candidate.index))
            yield InfillResponse(**event.model_dump(), candidates=ordered)
        elif isinstance(event, InfillBar) and event.candidate == 0:
            notes += event.notes
            if time.monotonic() - shown >= pause_s:
                shown = time.monotonic()
                yield partial_value(request, notes)


def partial_value(request: InfillRequest, notes: list[PlacedNote]) -> dict[str, Any]:
    """Return the `partial` value of the song view: the notes so far."""
    return {
        "bars": request.region.bars,
        "tracks": request.region.tracks,
        "notes": [roll_note(note) for note in notes],
    }
