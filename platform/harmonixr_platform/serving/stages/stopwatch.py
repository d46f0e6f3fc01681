"""When an engine began to read a prompt, had read it, and let it join: how a request spent its time in the model.

Stands between the engine's loop and its batch. Knows no HTTP and imports no torch.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harmonixr_platform.serving.transport.messages import Spent

if TYPE_CHECKING:
    from harmonixr_model.engine.batch import DecodeBatch
    from harmonixr_model.engine.row import Row
    from harmonixr_model.prompt.layout import InfillPrompt


@dataclass(slots=True)
class _Times:
    submitted: float
    reading: float | None = None
    joined: float | None = None


class Stopwatch:
    """Times of the prompts that are being answered, each known by its identity."""

    def __init__(self) -> None:
        self._times: dict[int, _Times] = {}

    def start(self, prompt: InfillPrompt) -> None:
        """Begin to count for a prompt that is about to be submitted."""
        self._times[id(prompt)] = _Times(time.perf_counter())

    def read(self, prompt: InfillPrompt) -> Spent:
        """Return how the time since `start` went."""
        times, now = self._times[id(prompt)], time.perf_counter()
        joined = now if times.joined is None else times.joined
        reading = joined if times.reading is None else times.reading
        return Spent(queue_s=reading - times.submitted, prefill_s=joined - reading, decode_s=now - joined)

    def stop(self, prompt: InfillPrompt) -> None:
        """Forget a prompt."""
        self._times.pop(id(prompt), None)

    def watch(self, batch: DecodeBatch) -> Any:
        """Return the batch with this clock beside it."""
        return _Watched(batch, self)

    def has_begun(self, prompt: InfillPrompt) -> None:
        """Take note that a prompt is read from now on."""
        times = self._times.get(id(prompt))
        if times and times.reading is None:
            times.reading = time.perf_counter()

    def has_joined(self, prompt: InfillPrompt) -> None:
        """Take note that a candidate of the prompt is decoded from now on."""
        times = self._times.get(id(prompt))
        if times and times.joined is None:
            times.joined = time.perf_counter()


class _Watched:
    def __init__(self, batch: DecodeBatch, stopwatch: Stopwatch) -> None:
        self._batch = batch
        self._stopwatch = stopwatch
        self.step, self.leave = batch.step, batch.leave

    @property
    def rows(self) -> list[Row]:
        return self._batch.rows

    def prefill(self, prompt: InfillPrompt) -> Generator[None, None, Any]:
        self._stopwatch.has_begun(prompt)
        return self._batch.prefill(prompt)

    def join(self, row: Row, prefix: Any) -> None:
        self._batch.join(row, prefix)
        self._stopwatch.has_joined(row.prompt)
