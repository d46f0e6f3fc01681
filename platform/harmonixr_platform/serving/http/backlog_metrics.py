"""What waits between Redis and the object store, as Prometheus reads it. Knows no store: it is asked at each scrape."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Gauge

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.stores.streams import Backlog

# Prometheus gives up after ten seconds, and must not lose the other metrics because of these.
_TIMEOUT_S = 4.0


class BacklogGauges:
    """Lag, pending and oldest age of the judgments not yet carried; NaN, and `up` 0, where Redis does not say."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"harmonixr:feedback_{name}", meaning, registry=registry)

        self._up = gauge("stream_up", "whether Redis answered when this was asked")
        self._values = {
            "length": gauge("stream_records", "records in Redis, carried ones not yet trimmed included"),
            "undelivered": gauge("lag_records", "records that no mover has taken yet"),
            "pending": gauge("pending_records", "records that a mover took and has not acknowledged"),
            "oldest_age_s": gauge("oldest_record_age_seconds", "how long the oldest of them has waited"),
        }

    async def refresh(self, ask: Callable[[], Awaitable[Backlog]]) -> None:
        """Ask, and hold the answer until the next time."""
        try:
            backlog = await asyncio.wait_for(ask(), _TIMEOUT_S)
        except (HarmonixrError, TimeoutError):
            backlog = None
        self._up.set(backlog is not None)
        for name, gauge in self._values.items():
            gauge.set(math.nan if backlog is None else getattr(backlog, name))
