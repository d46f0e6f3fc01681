"""How long each prompt waits in an engine, is prefilled and decoded. Sits between the engine's loop and its batch."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harmonixr_platform.serving.transport.messages import ModelTimings

if TYPE_CHECKING:
    from harmonixr_model.engine.batch import DecodeBatch
    from harmonixr_model.engine.row import Row
    from harmonixr_model.prompt.layout import InfillPrompt


@dataclass(slots=True)
class _Times:
    submitted: float
    prefill: float | None = None
    decode: float | None = None


class PromptTimer:
    """Times of the prompts in an engine, by the identity of the prompt object."""

    def __init__(self) -> None:
        self._times: dict[int, _Times] = {}

    def start(self, prompt: InfillPrompt) -> None:
        """Start the time of a prompt that is about to be submitted."""
        self._times[id(prompt)] = _Times(time.perf_counter())

    def read(self, prompt: InfillPrompt) -> ModelTimings:
        """Return the times since `start`."""
        times, now = self._times[id(prompt)], time.perf_counter()
        decode = now if times.decode is None else times.decode
        prefill = decode if times.prefill is None else times.prefill
        return ModelTimings(queue_s=prefill - times.submitted, prefill_s=decode - prefill, decode_s=now - decode)

    def stop(self, prompt: InfillPrompt) -> None:
        """Forget a prompt."""
        self._times.pop(id(prompt), None)

    def wrap(self, batch: DecodeBatch) -> Any:
        """Return the batch with this timer at its calls."""
        return _TimedBatch(batch, self)

    def prefill_starts(self, prompt: InfillPrompt) -> None:
        """Record that the prefill of a prompt starts now."""
        times = self._times.get(id(prompt))
        if times and times.prefill is None:
            times.prefill = time.perf_counter()

    def decode_starts(self, prompt: InfillPrompt) -> None:
        """Record that the first candidate of a prompt is decoded from now on."""
        times = self._times.get(id(prompt))
        if times and times.decode is None:
            times.decode = time.perf_counter()


class _TimedBatch:
    def __init__(self, batch: DecodeBatch, timer: PromptTimer) -> None:
        self._batch = batch
        self._timer = timer
        self.step, self.leave = batch.step, batch.leave

    @property
    def rows(self) -> list[Row]:
        return self._batch.rows

    def prefill(self, prompt: InfillPrompt) -> Generator[None, None, Any]:
        self._timer.prefill_starts(prompt)
        return self._batch.prefill(prompt)

    def join(self, row: Row, prefix: Any) -> None:
        self._batch.join(row, prefix)
        self._timer.decode_starts(row.prompt)
