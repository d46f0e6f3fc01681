"""What models there are to ask for."""

from datetime import datetime

from harmonixr_platform.schemas.base import Strict


class ModelView(Strict):
    """One version of a model, and the names that point to it."""

    version: str
    aliases: tuple[str, ...]
    checkpoint_sha256: str
    size_bytes: int
    created: datetime
    metrics: dict[str, float]
    note: str


class ModelsResponse(Strict):
    """What may stand in `model` of a request, and the reward models that `best_of` may use."""

    infill: tuple[ModelView, ...]
    reward: tuple[ModelView, ...]
