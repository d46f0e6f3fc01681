"""The one decode path: rows of any prompts, each with its own settings, a token a step.

Rows join and leave between steps. Knows nothing of queues, threads or files.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from torch import Tensor

from harmonixr_model.engine.guidance import chunks_of, lean, unasked
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.runner import MAX_CHUNK, Prefix, Runner
from harmonixr_model.engine.sampler import Sampler
from harmonixr_model.errors import PromptError
from harmonixr_model.prompt.layout import InfillPrompt


class DecodeBatch(Protocol):
    """Rows being decoded together, as `PythonBatch` has them."""

    @property
    def rows(self) -> list[Row]:
        """The rows, in no order that means anything."""
        ...

    @property
    def precision(self) -> str:
        """The number format in which rows are decoded."""
        ...

    def read(self, prompt: InfillPrompt) -> Generator[None, None, Prefix]:
        """Read a prompt's prefix, giving way after each layer; returns what `join` wants."""
        ...

    def join(self, row: Row, prefix: Prefix) -> None:
        """Let a fresh row take part from the next step on."""
        ...

    def leave(self, row: Row) -> None:
        """Take a row out; its place is free at once."""
        ...

    def step(self, *, most: int = 1) -> list[Row]:
        """Draw `most` tokens of every row, or fewer; return the rows that closed cells, finished ones taken out."""
        ...


class PythonBatch:
    """The rows being decoded together, in places without holes. One thread at a time.

    A guided row has a second reader, which is not asked anything: the runner has a place for each reader, the chooser
    one for each row.
    """

    def __init__(self, runner: Runner, chooser: Sampler) -> None:
        self.rows: list[Row] = []
        self._readers: list[Row] = []
        self._unasked: dict[Row, Row] = {}
        self._runner = runner
        self._chooser = chooser

    @property
    def precision(self) -> str:
        """The number format in which rows are decoded."""
        return self._runner.precision

    def read(self, prompt: InfillPrompt) -> Generator[None, None, Prefix]:
        """Read a prompt's prefix, giving way after each layer; returns what `join` wants."""
        return self._runner.read(prompt)

    def join(self, row: Row, prefix: Prefix) -> None:
        """Let a fresh row take part from the next step on."""
        if row.guidance != 1:
            self._unasked[row] = unasked(row)
        for reader in self._readers_of(row):
            self._runner.join(len(self._readers), prefix, reader.prompt)
            self._readers.append(reader)
        self._chooser.join(len(self.rows), row)
        self.rows.append(row)

    def leave(self, row: Row) -> None:
        """Take a row out; its place is free at once."""
        for reader in self._readers_of(row):
            place, last = self._readers.index(reader), self._readers[-1]
            self._runner.leave(place, len(self._readers) - 1, length=last.position)
            self._readers[place] = last
            self._readers.pop()
        self._unasked.pop(row, None)
        place = self.rows.index(row)
        self._chooser.leave(place, len(self.rows) - 1)
        self.rows[place] = self.rows[-1]
        self.rows.pop()

    def step(self, *, most: int = 1) -> list[Row]:
        """Feed every row what it has said since, and draw its next token; return the rows that closed a cell.

        A batch may do so up to `most` times, until a row is whole; this one does it once. Finished rows have left when
        this returns. A row with many forced tokens draws nothing until all are fed.
        """
        if not self.rows:
            return []
        logits_RV = self._feed()
        places = [place for place, row in enumerate(self.rows) if not row.pending]
        if not places:
            return []
        rows = [self.rows[place] for place in places]
        closed = []
        drawn = self._chooser.choose(self._logits(logits_RV, rows), places)
        for row, (token, log_probability) in zip(rows, drawn, strict=True):
            if row in self._unasked:
                self._unasked[row].take(token, log_probability)
            if row.take(token, log_probability):
                closed.append(row)
        for row in closed:
            if row.is_finished:
                self.leave(row)
        return closed

    def _readers_of(self, row: Row) -> list[Row]:
        return [row, self._unasked[row]] if row in self._unasked else [row]

    def _feed(self) -> Tensor:
        """Let every reader read on; return the logits after what each has read, [readers, V]."""
        chunks = {reader: reader.pending[:MAX_CHUNK] for reader in self._readers}
        for row, plain in self._unasked.items():
            chunks[row], chunks[plain] = chunks_of(row, plain)
        positions = [reader.position for reader in self._readers]
        logits_RV = self._runner.feed([chunks[reader] for reader in self._readers], positions)
        for reader in self._readers:
            del reader.pending[: len(chunks[reader])]
        return logits_RV

    def _logits(self, logits_RV: Tensor, rows: list[Row]) -> Tensor:
        """Return what each of `rows` draws from."""
        if rows == self._readers:
            return logits_RV
        place_of = {reader: place for place, reader in enumerate(self._readers)}
        drawn_RV = logits_RV[[place_of[row] for row in rows]]
        guided = [i for i, row in enumerate(rows) if row in self._unasked]
        if guided:
            plain_RV = logits_RV[[place_of[self._unasked[rows[i]]] for i in guided]]
            drawn_RV[guided] = lean(drawn_RV[guided], plain_RV, [rows[i].guidance for i in guided])
        return drawn_RV


class SplitBatch:
    """Two batches side by side: of rows of which nothing but notes is asked, and of all others. Both read alike."""

    def __init__(self, plain: DecodeBatch, asked: DecodeBatch) -> None:
        self._plain = plain
        self._asked = asked

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [*self._plain.rows, *self._asked.rows]

    @property
    def precision(self) -> str:
        """The number format in which rows are decoded."""
        return self._plain.precision

    def read(self, prompt: InfillPrompt) -> Generator[None, None, Prefix]:
        """Read a prompt's prefix, giving way after each layer; returns what `join` wants."""
        return self._plain.read(prompt)

    def join(self, row: Row, prefix: Prefix) -> None:
        """Let a fresh row take part from the next step on."""
        self._of(row).join(row, prefix)

    def leave(self, row: Row) -> None:
        """Take a row out; its place is free at once."""
        self._of(row).leave(row)

    def step(self, *, most: int = 1) -> list[Row]:
        """Step both, several tokens only where all rows can; return the rows that closed cells."""
        if not self._asked.rows:
            return self._plain.step(most=most)
        return [*self._plain.step(), *self._asked.step()]

    def _of(self, row: Row) -> DecodeBatch:
        return self._asked if row.prompt.is_conditional else self._plain


def check_fits(prompt: InfillPrompt, max_length: int) -> None:
    """Raise PromptError where a prompt and its fill may outgrow the model."""
    if len(prompt.prefix) + prompt.tables.max_tokens > max_length:
        raise PromptError(
            f"the context of {len(prompt.prefix)} tokens and a fill of up to {prompt.tables.max_tokens} do not fit the "
            f"model's {max_length}; choose a smaller region"
        )
