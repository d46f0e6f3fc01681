"""The events of `POST /v1/infill` with `Accept: text/event-stream`.

The order is `accepted`, then any number of `bar` and `candidate`, then exactly one `done` or `error` (a Problem).
"""

from harmonixr_platform.schemas.base import Strict
from harmonixr_platform.schemas.infill import CandidateView, PlacedNote


class InfillAccepted(Strict):
    """The request is accepted."""

    request_id: str
    model_version: str
    seed: int
    candidates: int


class InfillBar(Strict):
    """A candidate's notes in one bar of one track; `bar` and `track` count from 1.

    The later `candidate` event is final: it shortens a note that collides with a note of the context.
    """

    seed: int
    candidate: int
    bar: int
    track: int
    notes: tuple[PlacedNote, ...]


class InfillDone(Strict):
    """All candidates were sent; this has their model and seed."""

    request_id: str
    model_version: str
    checkpoint_sha256: str
    precision: str = "fp32"
    reward_version: str | None = None
    seed: int
    timings_ms: dict[str, float]


# The schema of each event, by its name.
INFILL_EVENTS: dict[str, type[Strict]] = {
    "accepted": InfillAccepted,
    "bar": InfillBar,
    "candidate": CandidateView,
    "done": InfillDone,
}
InfillEvent = InfillAccepted | InfillBar | CandidateView | InfillDone
