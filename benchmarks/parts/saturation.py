"""Serve requests that arrive faster than one at a time can handle: one at a time, and with continuous batching.

Times are CPU times, so other processes change little; the loop never sleeps.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from harmonixr_model.engine.engine import Sampling
from harmonixr_model.engine.request import RequestHandle
from harmonixr_model.engine.scheduler import EngineLimits, EngineLoop
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.layout import InfillPrompt


@dataclass(frozen=True, slots=True)
class Served:
    """The throughput and response times of a stream of requests."""

    per_minute: float
    p50_s: float
    p95_s: float


def arrivals(count: int, *, per_s: float, seed: int = 0) -> list[float]:
    """Return the arrival times of requests, a Poisson process."""
    rng = random.Random(seed)
    times, now = [], 0.0
    for _ in range(count):
        now += rng.expovariate(per_s)
        times.append(now)
    return times


def serve(model: InfillTransformer, prompts: Sequence[InfillPrompt], times: Sequence[float], *, rows: int) -> Served:
    """Serve one candidate for each request from its arrival time on, at most `rows` at the same time."""
    loop = EngineLoop.open(model, limits=EngineLimits(rows=rows, waiting_tokens=1 << 40))
    started = time.process_time()
    open_requests: dict[RequestHandle, float] = {}
    times_s: list[float] = []
    arriving = list(enumerate(times))[::-1]
    shift = 0.0  # skips idle time
    while arriving or open_requests:
        now = time.process_time() - started + shift
        if not open_requests and arriving and arriving[-1][1] > now:
            shift += arriving[-1][1] - now
            now = arriving[-1][1]
        while arriving and arriving[-1][1] <= now:
            number, at = arriving.pop()
            open_requests[loop.submit(prompts[number % len(prompts)], [number], Sampling())] = at
        loop.turn()
        now = time.process_time() - started + shift
        for ticket in [ticket for ticket in open_requests if ticket.has_ended]:
            ticket.result(0)
            times_s.append(now - open_requests.pop(ticket))
    times_s.sort()
    end = time.process_time() - started + shift
    return Served(60 * len(times) / end, times_s[len(times_s) // 2], times_s[int(0.95 * len(times_s))])
