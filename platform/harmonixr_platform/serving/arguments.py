"""What `serve_config.yaml` may set for the graph, parsed once in the builder. Knows nothing of Ray.

Numbers of replicas and queues are Ray's own keys, beside the deployments; addresses and secrets are environment.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ServingArgs(BaseModel):
    """Limits and sizes of the graph. Unknown keys fail.

    Attributes:
        deadline_s: the longest that a request may take; a caller may ask for less.
        max_midi_bytes: the largest file that is read.
        max_waiting: requests in work in one ingress.
        caller_waiting: of these, requests of one caller.
        retry_after_s: when whoever is refused for load should come back.
        threads: of the Model's and the Reward's arithmetic.
        loaded_models: versions kept in memory.
        rows: candidates decoded at once.
        caller_rows: of these, candidates of one caller.
        cache_tokens: tokens that the candidates decoded at once may hold together.
        waiting_tokens: tokens of requests that wait for a row.
        caller_waiting_tokens: of these, tokens of one caller.
        compiled: whether the model runs by the compiled step.
        alias_refresh_s: how soon a promotion is noticed.
        remembered_answers: answers that an ingress keeps by their Idempotency-Key.
        remembered_bytes: the most that these may hold together.
        recalled_answers: answers that Redis keeps by their Idempotency-Key.
        recalled_s: how long it keeps them.
        remembered_sounds: fills of which an ingress can give the sound.
        near_midi_bytes: the largest file that an ingress itself tokenizes and splices; 0: the other stages do it.
        model_line: whether an ingress may call the Model's one replica on its machine past Serve.
        mover_interval_s: how often judgments are carried to objects.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    deadline_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    max_midi_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    max_waiting: Annotated[int, Field(ge=1)] = 128
    caller_waiting: Annotated[int, Field(ge=1)] = 64
    retry_after_s: Annotated[int, Field(ge=1)] = 3
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    loaded_models: Annotated[int, Field(ge=1, le=16)] = 2
    rows: Annotated[int, Field(ge=1, le=1024)] = 32
    caller_rows: Annotated[int, Field(ge=1, le=1024)] = 24
    cache_tokens: Annotated[int, Field(ge=1024)] = 1 << 16
    waiting_tokens: Annotated[int, Field(ge=1024)] = 1 << 18
    caller_waiting_tokens: Annotated[int, Field(ge=1024)] = 1 << 17
    compiled: bool = True
    alias_refresh_s: Annotated[float, Field(ge=0)] = 5.0
    remembered_answers: Annotated[int, Field(ge=0)] = 64
    remembered_bytes: Annotated[int, Field(ge=0)] = 64 * 1024 * 1024
    recalled_answers: Annotated[int, Field(ge=0)] = 4096
    recalled_s: Annotated[int, Field(ge=1, le=86_400)] = 3600
    remembered_sounds: Annotated[int, Field(ge=1)] = 64
    near_midi_bytes: Annotated[int, Field(ge=0)] = 64 * 1024
    model_line: bool = True
    mover_interval_s: Annotated[float, Field(gt=0)] = 2.0


class ModelConfig(BaseModel):
    """The Model deployment's `user_config`, which may change without a restart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: str = Field(default="champion", description="what requests for the champion get: an alias or a version")
    canary: str | None = Field(default=None, description="what some of them get instead: an alias or a version")
    canary_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="the share of callers who get the canary, always the same ones"
    )


class RewardConfig(BaseModel):
    """The Reward deployment's `user_config`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: str = Field(default="champion", description="the reward model in force: an alias or a version")
