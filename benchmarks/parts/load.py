"""Clients that ask again and again until they are told to stop, and what became of their requests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from harmonixr_platform.client import ServiceError


@dataclass
class Tally:
    """Requests answered and failed, how long each took, and which versions answered."""

    took_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        """Return the time within which this share of the requests was answered."""
        ordered = sorted(self.took_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Load:
    """One thread a client; `ask` does one request and returns what it is counted as."""

    def __init__(self, asks: list[Callable[[], str]], *, tally: Tally | None = None) -> None:
        self.tally = Tally() if tally is None else tally
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(ask,)) for ask in asks]
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

    def _run(self, ask: Callable[[], str]) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self.tally.versions[ask()] += 1
                self.tally.took_s.append(time.monotonic() - started)
            except ServiceError as error:
                self.tally.failures.append(f"{error.status}: {error}")
