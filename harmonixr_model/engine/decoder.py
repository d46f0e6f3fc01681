"""The engine of the library: jobs in, fills out, in the caller's own thread. Knows nothing of queues, MIDI or Ray."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import groupby, islice

from harmonixr_model.engine.batch import DecodeBatch, check_fits
from harmonixr_model.engine.engine import GeneratedFill, Job, Sampling
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.runner import Prefix
from harmonixr_model.engine.selection import open_batch
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.layout import InfillPrompt

MAX_ROWS = 32
# Tokens of each row between two looks at what else there is to do: an interrupt waits for so many.
STEPS = 16


class Decoder:
    """Fills prompts with one model, up to MAX_ROWS candidates at a time.

    Eagerly by default: a single command must not wait for a compiler whose work it cannot earn back, and the same seed
    gives the same fill whether or not one was there. `compiled` is for those who make many fills, see `open_batch`.
    One thread at a time.
    """

    def __init__(self, model: InfillTransformer, *, compiled: bool = False) -> None:
        self.model = model.eval()
        self._batch = open_batch(model, rows=MAX_ROWS, compiled=True) if compiled else None

    @property
    def max_length(self) -> int:
        """The most tokens a prompt and its fill may take together."""
        return self.model.config.max_length

    def generate(self, prompt: InfillPrompt, *, seeds: Sequence[int], sampling: Sampling) -> list[GeneratedFill]:
        """Return one fill a seed, in order; raises PromptError where prompt and fill may outgrow the model."""
        return self.generate_each([(prompt, seed) for seed in seeds], sampling=sampling)

    def generate_each(self, jobs: Sequence[Job], *, sampling: Sampling) -> list[GeneratedFill]:
        """Return one fill a (prompt, seed), in order; raises PromptError as `generate` does.

        Jobs that share a prompt, one after the other, share its reading.
        """
        for prompt, _ in jobs:
            check_fits(prompt, self.max_length)
        if not jobs:
            return []
        rows = [Row(prompt, seed, sampling) for prompt, seed in jobs]
        batch, most = self._open(rows), MAX_ROWS // max(row.readers for row in rows)
        waiting = _with_prefixes(batch, rows)
        try:
            while not all(row.is_finished for row in rows):
                for row, prefix in islice(waiting, most - len(batch.rows)):
                    batch.join(row, prefix)
                batch.step(most=STEPS)
        finally:
            for row in list(batch.rows):  # an interrupted fill must not go on in the next one
                batch.leave(row)
        return [row.generated for row in rows]

    def _open(self, rows: Sequence[Row]) -> DecodeBatch:
        if self._batch is not None:
            return self._batch
        longest = max(len(row.prompt.prefix) + row.prompt.tables.max_tokens for row in rows)
        readers = sum(row.readers for row in rows)
        return open_batch(self.model, rows=min(readers, MAX_ROWS), length=longest)


def finish(reading: Generator[None, None, Prefix]) -> Prefix:
    """Run a reading to its end, without giving way, and return what it read."""
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


def _with_prefixes(batch: DecodeBatch, rows: Sequence[Row]) -> Iterator[tuple[Row, Prefix]]:
    """Give each row with its prefix, which is read when the first row of a prompt is asked for."""
    for _, sharing in groupby(rows, key=lambda row: id(row.prompt)):
        prefix: Prefix = None
        for row in sharing:
            prefix = prefix or finish(batch.read(row.prompt))
            yield row, prefix
