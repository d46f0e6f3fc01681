"""Clients that send requests continuously, and the results of these requests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from harmonixr_platform.client import ServiceError


@dataclass
class Tally:
    """Response times, failures, and the versions that responded."""

    times_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        """Return the response time that this share of the requests does not exceed."""
        ordered = sorted(self.times_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Load:
    """One thread for each client; each of `requests` sends one request and returns its version."""

    def __init__(self, requests: list[Callable[[], str]], *, tally: Tally | None = None) -> None:
        self.tally = Tally() if tally is None else tally
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(request,)) for request in requests]
        self._started = time.monotonic()
        self.seconds = 0.0

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self._started

    def _run(self, request: Callable[[], str]) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self.tally.versions[request()] += 1
                self.tally.times_s.append(time.monotonic() - started)
            except ServiceError as error:
                self.tally.failures.append(f"{error.status}: {error}")
