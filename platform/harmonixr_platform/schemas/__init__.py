"""The wire format: requests, responses and the immutable feedback records.

Bars, beats and tracks are counted from 1, and ranges include both ends.
"""

from harmonixr_model.engine.engine import DEFAULT_TEMPERATURE, temperature_text
from harmonixr_platform.schemas.base import Problem, Strict
from harmonixr_platform.schemas.comparisons import (
    ComparisonRequest,
    ComparisonView,
    ErasureReceipt,
    ErasureRequest,
    JudgmentReceipt,
    JudgmentRequest,
    RaterProgress,
    RetractionReceipt,
    RetractionRequest,
    SideView,
)
from harmonixr_platform.schemas.infill import (
    CandidateView,
    ControlSpec,
    InfillOptions,
    InfillRequest,
    InfillResponse,
    Lock,
    Pitch,
    PlacedNote,
    RegionSpec,
    SamplingSpec,
    TrackName,
)
from harmonixr_platform.schemas.inspection import BarView, InspectRequest, InspectResponse, PreviewRequest, TrackView
from harmonixr_platform.schemas.models import ModelsResponse, ModelView
from harmonixr_platform.schemas.records import (
    Candidate,
    Choice,
    Comparison,
    Consent,
    Flag,
    Interval,
    Judgment,
    Listening,
    Pair,
    Retraction,
    Tag,
    Tombstone,
)
from harmonixr_platform.schemas.streaming import (
    INFILL_EVENTS,
    InfillAccepted,
    InfillBar,
    InfillDone,
    InfillEvent,
)
