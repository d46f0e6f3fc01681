"""Requests that come faster than they can be answered one by one: answered one at a time, and all together.

The clock is the processor's, so that what else runs on the machine changes little: the loop never sleeps.
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
    """What became of a stream of requests."""

    per_minute: float
    p50_s: float
    p95_s: float


def arrivals(count: int, *, per_s: float, seed: int = 0) -> list[float]:
    """Return the seconds at which requests come: a Poisson process."""
    rng = random.Random(seed)
    times, now = [], 0.0
    for _ in range(count):
        now += rng.expovariate(per_s)
        times.append(now)
    return times


def serve(model: InfillTransformer, prompts: Sequence[InfillPrompt], times: Sequence[float], *, rows: int) -> Served:
    """Answer request i, one candidate, from time i on, with at most `rows` at once."""
    loop = EngineLoop.open(model, limits=EngineLimits(rows=rows, waiting_tokens=1 << 40))
    started = time.process_time()
    asked: dict[RequestHandle, float] = {}
    took: list[float] = []
    coming = list(enumerate(times))[::-1]
    shift = 0.0  # an idle engine skips to the next arrival
    while coming or asked:
        now = time.process_time() - started + shift
        if not asked and coming and coming[-1][1] > now:
            shift += coming[-1][1] - now
            now = coming[-1][1]
        while coming and coming[-1][1] <= now:
            number, at = coming.pop()
            asked[loop.submit(prompts[number % len(prompts)], [number], Sampling())] = at
        loop.turn()
        now = time.process_time() - started + shift
        for ticket in [ticket for ticket in asked if ticket.has_ended]:
            ticket.result(0)
            took.append(now - asked.pop(ticket))
    took.sort()
    end = time.process_time() - started + shift
    return Served(60 * len(times) / end, took[len(took) // 2], took[int(0.95 * len(took))])
