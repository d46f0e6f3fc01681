"""What crosses the wire: requests, answers and the immutable feedback records. Knows nothing of who sends them.

Bars, beats and tracks are counted from 1 here, as musicians count, and ranges include both ends.
"""

from harmonixr_platform.schemas.base import Problem, Strict
from harmonixr_platform.schemas.comparing import (
    ComparisonRequest,
    ComparisonView,
    JudgmentReceipt,
    JudgmentRequest,
    Progress,
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
from harmonixr_platform.schemas.looking import BarView, InspectRequest, InspectResponse, PreviewRequest, TrackView
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

__all__ = [
    "BarView",
    "Candidate",
    "CandidateView",
    "Choice",
    "Comparison",
    "ComparisonRequest",
    "ComparisonView",
    "Consent",
    "ControlSpec",
    "Flag",
    "InfillOptions",
    "InfillRequest",
    "InfillResponse",
    "InspectRequest",
    "InspectResponse",
    "Interval",
    "Judgment",
    "JudgmentReceipt",
    "JudgmentRequest",
    "Listening",
    "Lock",
    "ModelView",
    "ModelsResponse",
    "Pair",
    "Pitch",
    "PlacedNote",
    "PreviewRequest",
    "Problem",
    "Progress",
    "RegionSpec",
    "Retraction",
    "RetractionReceipt",
    "RetractionRequest",
    "SamplingSpec",
    "SideView",
    "Strict",
    "Tag",
    "Tombstone",
    "TrackName",
    "TrackView",
]
