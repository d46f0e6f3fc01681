"""The settings of the graph in `serve_config.yaml`, parsed once in the builder.

Numbers of replicas and queue lengths are Ray's own keys, beside the deployments. Addresses and secrets are environment.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

_OLD_NAMES = {
    "near_midi_bytes": "in_process_midi_bytes",
    "remembered_answers": "cached_responses",
    "remembered_bytes": "cached_response_bytes",
    "recalled_answers": "redis_cached_responses",
    "recalled_s": "redis_cache_s",
    "remembered_sounds": "cached_sounds",
}


class ServingArgs(BaseModel):
    """Limits and sizes of the graph. Unknown keys fail.

    Attributes:
        deadline_s: the longest time a request may take; a client can set a shorter one.
        max_midi_bytes: the largest MIDI file that the service reads.
        max_waiting: requests in progress in one ingress replica.
        caller_waiting: of these, requests of one caller.
        retry_after_s: when a client that was refused for load should try again.
        threads: threads for arithmetic in the Model and the Reward stage.
        loaded_models: model versions in memory.
        rows: candidates decoded at the same time.
        caller_rows: of these, candidates of one caller.
        cache_tokens: tokens of all candidates decoded at the same time.
        waiting_tokens: tokens of the requests that wait for a row.
        caller_waiting_tokens: of these, tokens of one caller.
        compiled: whether the model runs with the compiled step.
        alias_refresh_s: how often aliases are read again, so how soon a promotion takes effect.
        cached_responses: responses by Idempotency-Key in the memory of an ingress replica.
        cached_response_bytes: the most bytes of these responses.
        redis_cached_responses: responses by Idempotency-Key in Redis.
        redis_cache_s: how long Redis caches them.
        cached_sounds: fills of which an ingress replica can render the sound.
        in_process_midi_bytes: the largest file that the ingress itself tokenizes and splices; 0 for none.
        mover_interval_s: how often judgments are moved from Redis to the object store.

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
    cached_responses: Annotated[int, Field(ge=0)] = 64
    cached_response_bytes: Annotated[int, Field(ge=0)] = 64 * 1024 * 1024
    redis_cached_responses: Annotated[int, Field(ge=0)] = 4096
    redis_cache_s: Annotated[int, Field(ge=1, le=86_400)] = 3600
    cached_sounds: Annotated[int, Field(ge=1)] = 64
    in_process_midi_bytes: Annotated[int, Field(ge=0)] = 64 * 1024
    mover_interval_s: Annotated[float, Field(gt=0)] = 2.0

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, given: Any) -> Any:
        """Read a configuration of version 0.1.0; its key `model_line` has no effect any more."""
        if not isinstance(given, dict):
            return given
        return {_OLD_NAMES.get(name, name): value for name, value in given.items() if name != "model_line"}


class ModelConfig(BaseModel):
    """The Model deployment's `user_config`, which may change without a restart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: str = Field(default="champion", description="serves requests for the champion: an alias or a version")
    canary: str | None = Field(default=None, description="serves a share of these requests: an alias or a version")
    canary_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="the share of callers routed to the canary, always the same callers"
    )


class RewardConfig(BaseModel):
    """The Reward deployment's `user_config`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: str = Field(default="champion", description="the reward model in service: an alias or a version")
