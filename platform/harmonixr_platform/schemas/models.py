"""The list of available models."""

from datetime import datetime

from harmonixr_platform.schemas.base import Strict


class ModelView(Strict):
    """One version of a model with its aliases."""

    version: str
    aliases: tuple[str, ...]
    checkpoint_sha256: str
    size_bytes: int
    created: datetime
    metrics: dict[str, float]
    note: str


class ModelsResponse(Strict):
    """The models for `model` of a request, and the reward models for `best_of`."""

    infill: tuple[ModelView, ...]
    reward: tuple[ModelView, ...]
