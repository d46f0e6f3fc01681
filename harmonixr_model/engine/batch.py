"""Decode many candidates at once, a step at a time.

From a prompt to its fills, in order:

 1. `EngineLoop.submit` (service) or `Decoder.generate` (library) takes a prompt, seeds and a `Sampling`.
 2. `DecodeBatch.prefill` reads the prompt's prefix once for all its candidates, a layer at a time. The keys and values
    stay in `PrefixCache` for the next request with the same prefix.
 3. Each candidate becomes a `Row`. Its first tokens are forced: the header of the first cell.
 4. `DecodeBatch.join` adds the row: the `Runner` gives it a KV cache that continues the prefix, the `Sampler` opens its
    grammar, copy pointer and random stream.
 5. `DecodeBatch.step` decodes the next token of every row:
      a. feed: `Runner.feed` appends each row's pending tokens to the KV cache and returns the logits after them;
      b. guide: `apply_guidance` combines the logits of a guided row with those of its unconditional row;
      c. sample: `Sampler.sample` mixes in the copy pointer, masks what the grammar forbids and samples a token;
      d. append: `Row.append` appends the token and the forced tokens after it, which are pending in the next step.
 6. A finished cell is reported to the request's handle. A row leaves after EOS, and `Row.output` is its fill.

`NativeBatch` does 5a, 5c and 5d in C++ for rows without attribute controls, several tokens a call; `PythonBatch` does
all of it for any row. A fill is the same alone and in any batch.
"""

# R rows, V vocabulary

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol

from torch import Tensor

from harmonixr_model.engine.guidance import apply_guidance, next_chunks, unconditional_row
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.runner import MAX_CHUNK, Prefix, Runner
from harmonixr_model.engine.sampler import Sampler
from harmonixr_model.errors import PromptError
from harmonixr_model.prompt.layout import InfillPrompt


class DecodeBatch(Protocol):
    """Rows that are decoded together. Use it from one thread."""

    @property
    def rows(self) -> list[Row]:
        """The rows, in any order."""
        ...

    @property
    def precision(self) -> str:
        """The number format of weights and products: the same seed may give another fill in another one."""
        ...

    def prefill(self, prompt: InfillPrompt) -> Generator[None, None, Prefix]:
        """Read a prompt's prefix, yielding after each layer; the generator returns what `join` takes."""
        ...

    def join(self, row: Row, prefix: Prefix) -> None:
        """Add a new row from the next step on."""
        ...

    def leave(self, row: Row) -> None:
        """Remove a row."""
        ...

    def step(self, *, max_tokens: int = 1) -> list[Row]:
        """Sample up to `max_tokens` tokens of every row; return the rows that finished cells.

        Finished rows have left when this returns. A row samples nothing while more than a chunk of its forced tokens
        is pending.
        """
        ...


class PythonBatch:
    """Decode any rows, one token a step."""

    def __init__(self, runner: Runner, sampler: Sampler) -> None:
        self.rows: list[Row] = []
        self._runner = runner
        self._sampler = sampler
        self._model_rows: list[Row] = []  # in the order of the runner's KV cache: rows, and their unconditional rows
        self._unconditional: dict[Row, Row] = {}

    @property
    def precision(self) -> str:
        """The number format of weights and products."""
        return self._runner.precision

    def prefill(self, prompt: InfillPrompt) -> Generator[None, None, Prefix]:
        """Read a prompt's prefix; see `DecodeBatch`."""
        return self._runner.prefill(prompt)

    def join(self, row: Row, prefix: Prefix) -> None:
        """Add a new row from the next step on."""
        self._sampler.join(row)
        if row.guidance != 1:
            self._unconditional[row] = unconditional_row(row)
        for model_row in self._model_rows_of(row):
            self._runner.join(len(self._model_rows), prefix, model_row.prompt)
            self._model_rows.append(model_row)
        self.rows.append(row)

    def leave(self, row: Row) -> None:
        """Remove a row. The last row of the KV cache moves to its place."""
        self.rows.remove(row)
        self._sampler.leave(row)
        for model_row in self._model_rows_of(row):
            index, last = self._model_rows.index(model_row), self._model_rows[-1]
            self._runner.leave(index, len(self._model_rows) - 1, length=last.position)
            self._model_rows[index] = last
            self._model_rows.pop()
        self._unconditional.pop(row, None)

    def step(self, *, max_tokens: int = 1) -> list[Row]:
        """Sample the next token of every row, whatever `max_tokens` is; see `DecodeBatch`."""
        if not self.rows:
            return []
        # 1. Feed the pending tokens of all rows.
        logits_RV = self._feed()
        rows = [row for row in self.rows if not row.pending]
        if not rows:
            return []
        # 2. Apply guidance.
        logits_RV = self._guided_logits(logits_RV, rows)
        # 3. Sample a token for each row.
        sampled = self._sampler.sample(logits_RV, rows)
        # 4. Append it, and remove the rows that are finished.
        changed = []
        for row, (token, log_probability) in zip(rows, sampled, strict=True):
            if row in self._unconditional:
                self._unconditional[row].append(token, log_probability)
            if row.append(token, log_probability):
                changed.append(row)
        for row in changed:
            if row.is_finished:
                self.leave(row)
        return changed

    def _model_rows_of(self, row: Row) -> list[Row]:
        return [row, self._unconditional[row]] if row in self._unconditional else [row]

    def _feed(self) -> Tensor:
        """Feed a chunk of each model row's pending tokens; return the logits after it, [model rows, V]."""
        chunks = {row: row.pending[:MAX_CHUNK] for row in self._model_rows}
        for row, unconditional in self._unconditional.items():
            chunks[row], chunks[unconditional] = next_chunks(row, unconditional)
        positions = [row.position for row in self._model_rows]
        logits_RV = self._runner.feed([chunks[row] for row in self._model_rows], positions)
        for row in self._model_rows:
            del row.pending[: len(chunks[row])]
        return logits_RV

    def _guided_logits(self, logits_RV: Tensor, rows: list[Row]) -> Tensor:
        """Return the logits from which `rows` sample; `logits_RV` are those of all model rows."""
        if rows == self._model_rows:
            return logits_RV
        index_of = {row: index for index, row in enumerate(self._model_rows)}
        own_RV = logits_RV[[index_of[row] for row in rows]]
        guided = [i for i, row in enumerate(rows) if row in self._unconditional]
        if guided:
            unconditional_RV = logits_RV[[index_of[self._unconditional[rows[i]]] for i in guided]]
            own_RV[guided] = apply_guidance(own_RV[guided], unconditional_RV, [rows[i].guidance for i in guided])
        return own_RV


class SplitBatch:
    """Decode the rows that NativeBatch supports in C++, and all others in Python. Both share one runner."""

    def __init__(self, native: DecodeBatch, python: DecodeBatch, *, is_native: Callable[[InfillPrompt], bool]) -> None:
        self._native = native
        self._python = python
        self._is_native = is_native

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [*self._native.rows, *self._python.rows]

    @property
    def precision(self) -> str:
        """The number format of weights and products."""
        return self._native.precision

    def prefill(self, prompt: InfillPrompt) -> Generator[None, None, Prefix]:
        """Read a prompt's prefix; see `DecodeBatch`."""
        return self._native.prefill(prompt)

    def join(self, row: Row, prefix: Prefix) -> None:
        """Add a new row from the next step on."""
        self._batch_of(row).join(row, prefix)

    def leave(self, row: Row) -> None:
        """Remove a row."""
        self._batch_of(row).leave(row)

    def step(self, *, max_tokens: int = 1) -> list[Row]:
        """Step both batches, by several tokens only where there is no row in Python."""
        if not self._python.rows:
            return self._native.step(max_tokens=max_tokens)
        return [*self._native.step(), *self._python.step()]

    def _batch_of(self, row: Row) -> DecodeBatch:
        return self._native if self._is_native(row.prompt) else self._python


def check_fits(prompt: InfillPrompt, max_length: int) -> None:
    """Raise PromptError where a prompt and its fill may exceed the model's length."""
    if len(prompt.prefix) + prompt.tables.max_tokens > max_length:
        raise PromptError(
            f"the context of {len(prompt.prefix)} tokens and a fill of up to {prompt.tables.max_tokens} do not fit the "
            f"model's {max_length}; choose a smaller region"
        )
