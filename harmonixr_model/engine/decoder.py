"""The engine of the library: prompts in, fills out, in the caller's own thread."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import groupby, islice

from harmonixr_model.engine.batch import DecodeBatch, check_fits
from harmonixr_model.engine.engine import GeneratedFill, PromptSeed, Sampling
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.runner import Prefix
from harmonixr_model.engine.selection import open_batch
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.layout import InfillPrompt

MAX_ROWS = 32
# Tokens a step for each row; an interrupt waits for the end of a step.
STEP_TOKENS = 16


class Decoder:
    """Fill prompts with one model, up to MAX_ROWS candidates at a time. Use it from one thread.

    PyTorch runs the model by default: a single command is over before a compiler has paid off, and the same seed gives
    the same fill on machines with and without one. Use `compiled` for many fills; see `open_batch`.
    """

    def __init__(self, model: InfillTransformer, *, compiled: bool = False) -> None:
        self.model = model.eval()
        self._batch = open_batch(model, rows=MAX_ROWS, compiled=True) if compiled else None

    @property
    def max_length(self) -> int:
        """The most tokens a prompt and its fill may take together."""
        return self.model.config.max_length

    def generate(self, prompt: InfillPrompt, *, seeds: Sequence[int], sampling: Sampling) -> list[GeneratedFill]:
        """Return one fill a seed, in order; raises PromptError where prompt and fill may exceed the model's length."""
        return self.generate_each([(prompt, seed) for seed in seeds], sampling=sampling)

    def generate_each(self, jobs: Sequence[PromptSeed], *, sampling: Sampling) -> list[GeneratedFill]:
        """Return one fill a (prompt, seed), in order; consecutive jobs with one prompt share its prefill."""
        for prompt, _ in jobs:
            check_fits(prompt, self.max_length)
        if not jobs:
            return []
        rows = [Row(prompt, seed, sampling) for prompt, seed in jobs]
        batch, max_rows = self._open(rows), MAX_ROWS // max(row.model_rows for row in rows)
        waiting = _with_prefixes(batch, rows)
        try:
            while not all(row.is_finished for row in rows):
                for row, prefix in islice(waiting, max_rows - len(batch.rows)):
                    batch.join(row, prefix)
                batch.step(max_tokens=STEP_TOKENS)
        finally:
            for row in list(batch.rows):  # an interrupted call must leave the batch empty
                batch.leave(row)
        return [row.output for row in rows]

    def _open(self, rows: Sequence[Row]) -> DecodeBatch:
        if self._batch is not None:
            return self._batch
        longest = max(len(row.prompt.prefix) + row.prompt.tables.max_tokens for row in rows)
        model_rows = sum(row.model_rows for row in rows)
        return open_batch(self.model, rows=min(model_rows, MAX_ROWS), length=longest)


def run_prefill(prefill: Generator[None, None, Prefix]) -> Prefix:
    """Run `DecodeBatch.prefill` to its end and return the prefix."""
    while True:
        try:
            next(prefill)
        except StopIteration as end:
            return end.value


def _with_prefixes(batch: DecodeBatch, rows: Sequence[Row]) -> Iterator[tuple[Row, Prefix]]:
    """Yield each row with its prefix; a prompt is prefilled when its first row is due."""
    for _, sharing in groupby(rows, key=lambda row: id(row.prompt)):
        prefix: Prefix = None
        for row in sharing:
            prefix = prefix or run_prefill(batch.prefill(row.prompt))
            yield row, prefix
