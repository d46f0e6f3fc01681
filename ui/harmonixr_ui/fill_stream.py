"""A fill as it comes, for the song view: the notes decided so far, and last the answer. Knows nothing of Gradio."""

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
from harmonixr_ui.routes import drawn

# The view is sent whole each time: more often would cost more than an eye can follow.
PAUSE_S = 0.2


async def coming(
    request: InfillRequest, events: AsyncIterator[InfillEvent], *, pause_s: float = PAUSE_S
) -> AsyncIterator[dict[str, Any] | InfillResponse]:
    """Give the first fill's notes so far, at most once in `pause_s`, and last the whole answer."""
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
                yield coming_value(request, notes)


def coming_value(request: InfillRequest, notes: list[PlacedNote]) -> dict[str, Any]:
    """Return what the song view shows of a fill that is still being made."""
    return {
        "bars": request.region.bars,
        "tracks": request.region.tracks,
        "notes": [drawn(note) for note in notes],
    }
