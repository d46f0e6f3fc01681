"""The Prometheus metrics of an ingress, named as in vLLM where it has the same metric."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.schemas import CandidateView, InfillDone, InfillEvent, InfillResponse
from harmonixr_platform.stores.streams import Backlog

_STAGE_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
# Prometheus gives up after ten seconds, and must not lose the other metrics because of the backlog.
_BACKLOG_TIMEOUT_S = 4.0


class Metrics:
    """Counters, histograms and gauges in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "harmonixr:http_requests", "requests by route and status", ["path", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "harmonixr:e2e_request_latency_seconds",
            "from the head of the request to the end of the response",
            ["path"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge("harmonixr:num_requests_running", "requests in progress", registry=self.registry)
        self.tokens = Counter("harmonixr:generation_tokens", "fill tokens in responses", registry=self.registry)
        self.judgments = Counter("harmonixr:judgments", "judgments stored", registry=self.registry)
        self.backlog = BacklogGauges(self.registry)
        self.stages = Histogram(
            "harmonixr:stage_seconds",
            "time of a fill in each stage; graph: between the stages",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )

    def count(self, event: InfillEvent | InfillResponse) -> None:
        """Count tokens and stage times of an event or a response."""
        if isinstance(event, CandidateView):
            self.tokens.inc(sum(len(window) for window in event.tokens))
        elif isinstance(event, InfillDone | InfillResponse):
            for stage, took_ms in event.timings_ms.items():
                self.stages.labels(stage).observe(took_ms / 1000)


class BacklogGauges:
    """Lag, pending and oldest age of the judgments that wait to be moved; without Redis NaN, and `up` 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"harmonixr:feedback_{name}", meaning, registry=registry)

        self._up = gauge("stream_up", "whether Redis responded to the last scrape")
        self._values = {
            "length": gauge("stream_records", "records in Redis, including moved ones not yet trimmed"),
            "undelivered": gauge("lag_records", "records that no mover has taken yet"),
            "pending": gauge("pending_records", "records that a mover took and has not acknowledged"),
            "oldest_age_s": gauge("oldest_record_age_seconds", "how long the oldest of them has waited"),
        }

    async def refresh(self, read: Callable[[], Awaitable[Backlog]]) -> None:
        """Read the backlog, at each scrape, and set the gauges."""
        try:
            backlog = await asyncio.wait_for(read(), _BACKLOG_TIMEOUT_S)
        except (HarmonixrError, TimeoutError):
            backlog = None
        self._up.set(backlog is not None)
        for name, gauge in self._values.items():
            gauge.set(math.nan if backlog is None else getattr(backlog, name))
