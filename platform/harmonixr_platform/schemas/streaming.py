"""A fill as it is being made: the events of `POST /v1/infill` with `Accept: text/event-stream`.

In order: `accepted`, then `bar` and `candidate` as they come, and last exactly one `done` or `error` (a Problem).
"""

from harmonixr_platform.schemas.base import Strict
from harmonixr_platform.schemas.infill import CandidateView, PlacedNote


class InfillAccepted(Strict):
    """The request is understood and will be answered."""

    request_id: str
    model_version: str
    seed: int
    candidates: int


class InfillBar(Strict):
    """One track's notes of one bar, decided by one candidate; `bar` and `track` count from 1.

    The `candidate` event that follows has the last word: where a note collides with one that stays, it is shortened.
    """

    seed: int
    candidate: int
    bar: int
    track: int
    notes: tuple[PlacedNote, ...]


class InfillDone(Strict):
    """Every candidate was sent: what made them."""

    request_id: str
    model_version: str
    checkpoint_sha256: str
    precision: str = "fp32"
    reward_version: str | None = None
    seed: int
    timings_ms: dict[str, float]


# The name of an event, and what it carries.
INFILL_EVENTS: dict[str, type[Strict]] = {
    "accepted": InfillAccepted,
    "bar": InfillBar,
    "candidate": CandidateView,
    "done": InfillDone,
}
InfillEvent = InfillAccepted | InfillBar | CandidateView | InfillDone
