"""What `serve_config.yaml` may set for the graph, parsed once in the builder. Knows nothing of Ray.

Numbers of replicas and queues are Ray's own keys, beside the deployments; addresses and secrets are environment.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ServingArgs(BaseModel):
    """Limits and sizes of the graph. Unknown keys fail."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    deadline_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    max_midi_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    max_waiting: Annotated[int, Field(ge=1)] = 32
    retry_after_s: Annotated[int, Field(ge=1)] = 3
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    loaded_models: Annotated[int, Field(ge=1, le=16)] = 2
    alias_refresh_s: Annotated[float, Field(ge=0)] = 5.0
    remembered_answers: Annotated[int, Field(ge=0)] = 64
    remembered_sounds: Annotated[int, Field(ge=1)] = 64
    mover_interval_s: Annotated[float, Field(gt=0)] = 2.0


class ModelConfig(BaseModel):
    """The Model deployment's `user_config`, which may change without a restart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: str = Field(default="champion", description="what requests for the champion get: an alias or a version")


class RewardConfig(BaseModel):
    """The Reward deployment's `user_config`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: str = Field(default="champion", description="the reward model in force: an alias or a version")
