"""The one decode path: rows of any prompts, each with its own settings, a token a step.

Rows join and leave between steps. Knows nothing of queues, threads or files.
"""

from __future__ import annotations

from collections.abc import Generator

from harmonixr_model.engine.chooser import Chooser
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.runner import MAX_CHUNK, Prefix, Runner
from harmonixr_model.errors import PromptError
from harmonixr_model.tokens.infill import InfillPrompt


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

    def step(self) -> list[Row]:
        """Feed every row what it has said since, and draw its next token; return the rows that closed a cell.

        Finished rows have left when this returns. A row with many forced tokens draws nothing until all are fed.
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


def check_fits(prompt: InfillPrompt, max_length: int) -> None:
    """Raise PromptError where a prompt and its fill may outgrow the model."""
    if len(prompt.prefix) + prompt.rules.max_tokens > max_length:
        raise PromptError(
            f"the context of {len(prompt.prefix)} tokens and a fill of up to {prompt.rules.max_tokens} do not fit the "
            f"model's {max_length}; choose a smaller region"
        )
