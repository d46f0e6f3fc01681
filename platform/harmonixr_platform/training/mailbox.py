"""How a worker tells the driver where it stands: an actor that keeps messages until they are fetched.

Ray's own log lines would carry the text too, but not as something to measure or to redraw in place.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from harmonixr_model.training.loop import StepMetrics

POLL_S = 0.3


class Mailbox:
    """Messages in the order they came."""

    def __init__(self) -> None:
        self._kept: list[StepMetrics] = []

    def post(self, progress: StepMetrics) -> None:
        """Leave a message."""
        self._kept.append(progress)

    def take(self) -> list[StepMetrics]:
        """Fetch what was left since the last time."""
        kept, self._kept = self._kept, []
        return kept


class Listener(Protocol):
    """Something to call with each message, and to close at the end."""

    def __call__(self, progress: StepMetrics) -> None:
        """Hear of one step."""
        ...

    def close(self) -> None:
        """Hear that there will be no more."""
        ...


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[Any]:
    """Give a mailbox actor whose messages reach `listener`, in a thread of this process, until the block ends."""
    import ray

    mailbox: Any = ray.remote(num_cpus=0)(Mailbox).remote()
    is_over = threading.Event()

    def fetch() -> None:
        for progress in ray.get(mailbox.take.remote()):
            listener(progress)

    def poll() -> None:
        while not is_over.wait(POLL_S):
            fetch()

    thread = threading.Thread(target=poll, name="progress", daemon=True)
    thread.start()
    try:
        yield mailbox
        is_over.set()
        thread.join()
        fetch()
    finally:
        is_over.set()
        thread.join()
        listener.close()
