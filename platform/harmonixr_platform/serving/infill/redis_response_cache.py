"""Responses by Idempotency-Key in Redis, for retries that reach another replica. Bounded in time, number and size.

A record holds the model's tokens, from which the same response is built again; it holds no file of a caller. Without
Redis nothing is cached: a retry computes its response again, and the same one, since the key determines the seed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harmonixr_platform.schemas import InfillResponse
from harmonixr_platform.schemas.base import Strict
from harmonixr_platform.serving.transport.messages import ModelInfo
from harmonixr_platform.stores.connect import redis_server
from harmonixr_platform.stores.errors import StoreUnavailable
from harmonixr_platform.stores.streams import RecordStream

if TYPE_CHECKING:
    from harmonixr_platform.serving.arguments import ServingArgs
    from harmonixr_platform.settings import Settings

_log = logging.getLogger("ray.serve")
_PREFIX = "{harmonixr}:answer"
_MAX_BYTES = 256 * 1024
# A Redis that hangs must not delay every request.
_TIMEOUT_S = 0.5
_PAUSE_S = 5.0


class CachedCandidate(Strict):
    """What a candidate is built from."""

    seed: int
    tokens: tuple[tuple[int, ...], ...]
    log_probability: float
    reward: float | None


class CachedResponse(Strict):
    """What a response is built from. `digest` is FillRequest.digest()."""

    digest: str
    request_id: str
    model_version: str
    checkpoint_sha256: str
    max_length: int
    reward_version: str | None
    seed: int
    candidates: tuple[CachedCandidate, ...]
    precision: str = "fp32"

    @property
    def info(self) -> ModelInfo:
        """The model that made it."""
        return ModelInfo(self.model_version, self.checkpoint_sha256, self.max_length, precision=self.precision)

    @classmethod
    def of(cls, response: InfillResponse, info: ModelInfo, *, digest: str) -> CachedResponse:
        """Return the record of a response."""
        candidates = (
            CachedCandidate(seed=c.seed, tokens=c.tokens, log_probability=c.log_probability, reward=c.reward)
            for c in response.candidates
        )
        return cls(
            digest=digest,
            request_id=response.request_id,
            model_version=info.version,
            checkpoint_sha256=info.sha256,
            max_length=info.max_length,
            reward_version=response.reward_version,
            seed=response.seed,
            candidates=tuple(candidates),
            precision=info.precision,
        )


class RedisResponseCache:
    """The responses of all ingress replicas. Without Redis it is empty; it never raises."""

    def __init__(self, stream: RecordStream, *, capacity: int, ttl_s: int) -> None:
        self._stream = stream
        self._capacity = capacity
        self._ttl_s = ttl_s
        self._away_until = float("-inf")
        self._script = files("harmonixr_platform.serving.infill").joinpath("redis_response_cache.lua").read_text()

    @classmethod
    def open(cls, settings: Settings, args: ServingArgs) -> RedisResponseCache:
        """Return the cache on the Redis that the settings name."""
        stream = RecordStream(redis_server(settings), timeout_s=_TIMEOUT_S)
        return cls(stream, capacity=args.redis_cached_responses, ttl_s=args.redis_cache_s)

    async def get(self, key: str) -> CachedResponse | None:
        """Return the record of a key, or None."""
        fields = await self._run(lambda: self._stream.read_hash(_name(key)))
        record = fields.get("record") if isinstance(fields, dict) else None
        if record is None:
            return None
        try:
            return CachedResponse.model_validate_json(record)
        except ValidationError:
            # An older version of the service wrote it.
            return None

    async def put(self, key: str, response: CachedResponse) -> None:
        """Store the record of a key."""
        record = response.model_dump_json()
        if len(record) > _MAX_BYTES:
            return
        arguments = [record, str(1000 * self._ttl_s), str(self._capacity), str(round(1000 * time.time()))]
        keys = [_name(key), f"{_PREFIX}s"]
        await self._run(lambda: self._stream.run_script(self._script, keys, arguments))

    def close(self) -> None:
        """Close the connections."""
        self._stream.close()

    async def _run(self, command: Callable[[], object]) -> object:
        if not self._capacity or time.monotonic() < self._away_until:
            return None
        try:
            return await asyncio.to_thread(command)
        except StoreUnavailable as error:
            self._away_until = time.monotonic() + _PAUSE_S
            _log.warning("responses are not cached in Redis for %.0f s: %s", _PAUSE_S, error)
            return None


def _name(key: str) -> str:
    return f"{_PREFIX}:{hashlib.sha256(key.encode()).hexdigest()}"
