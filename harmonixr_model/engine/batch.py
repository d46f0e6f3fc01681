"""The one decode path: rows of any prompts, each with its own settings, a token a step.

Rows join and leave between steps. Knows nothing of queues, threads or files.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from harmonixr_model.engine.chooser import Chooser
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.runner import MAX_CHUNK, Prefix, Runner
from harmonixr_model.errors import PromptError
from harmonixr_model.tokens.infill import InfillPrompt


class AnyBatch(Protocol):
    """Rows being decoded together, as `Batch` has them."""

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


class Batch:
    """The rows being decoded together, in places without holes. One thread at a time."""

    def __init__(self, runner: Runner, chooser: Chooser) -> None:
        self.rows: list[Row] = []
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
        self._runner.join(len(self.rows), prefix, row.prompt)
        self._chooser.join(len(self.rows), row)
        self.rows.append(row)

    def leave(self, row: Row) -> None:
        """Take a row out; its place is free at once."""
        place, last = self.rows.index(row), self.rows[-1]
        self._runner.leave(place, len(self.rows) - 1, length=last.position)
        self._chooser.leave(place, len(self.rows) - 1)
        self.rows[place] = last
        self.rows.pop()

    def step(self, *, most: int = 1) -> list[Row]:
        """Feed every row what it has said since, and draw its next token; return the rows that closed a cell.

        A batch may do so up to `most` times, until a row is whole; this one does it once. Finished rows have left when
        this returns. A row with many forced tokens draws nothing until all are fed.
        """
        if not self.rows:
            return []
        positions = [row.position for row in self.rows]
        chunks = [row.pending[:MAX_CHUNK] for row in self.rows]
        logits_RV = self._runner.feed(chunks, positions)
        for row in self.rows:
            del row.pending[:MAX_CHUNK]
        places = [place for place, row in enumerate(self.rows) if not row.pending]
        if not places:
            return []
        if len(places) < len(self.rows):
            logits_RV = logits_RV[places]
        closed = []
        for place, (token, log_probability) in zip(places, self._chooser.choose(logits_RV, places), strict=True):
            if self.rows[place].take(token, log_probability):
                closed.append(self.rows[place])
        for row in closed:
            if row.is_finished:
                self.leave(row)
        return closed


class MixedBatch:
    """Two batches side by side: of rows of which nothing but notes is asked, and of all others. Both read alike."""

    def __init__(self, plain: AnyBatch, asked: AnyBatch) -> None:
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

    def _of(self, row: Row) -> AnyBatch:
        return self._asked if row.prompt.is_asked else self._plain


def check_fits(prompt: InfillPrompt, max_length: int) -> None:
    """Raise PromptError where a prompt and its fill may outgrow the model."""
    if len(prompt.prefix) + prompt.rules.max_tokens > max_length:
        raise PromptError(
            f"the context of {len(prompt.prefix)} tokens and a fill of up to {prompt.rules.max_tokens} do not fit the "
            f"model's {max_length}; choose a smaller region"
        )
