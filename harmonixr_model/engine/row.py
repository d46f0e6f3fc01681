"""One candidate while it is decoded: its tokens, and which of them the model has not read yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harmonixr_model.engine.engine import GeneratedFill, Sampling
from harmonixr_model.grammar.fill_tables import CHOICE
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import CoordinateState
from harmonixr_model.prompt.layout import InfillPrompt

END, EOS = VOCAB.id("END"), VOCAB.id("EOS")

# (token, bar, step, slot, previous token, values of the attribute controls)
PlacedToken = tuple[int, int, int, int, int, tuple[int, ...]]


@dataclass(slots=True, eq=False)
class Row:
    """A candidate. It appends the forced tokens itself: headers, the fixed tokens of a single-field fill, and EOS.

    Attributes:
        cell: index of the cell that is decoded now; the number of cells once the row is finished.
        tokens: all tokens so far, sampled and forced.
        pending: the tokens that the model has not read yet, with their coordinates.
        log_probability: sum over the sampled tokens, in nats.
        reported_cells: how many cells the engine has reported to the request's handle.

    """

    prompt: InfillPrompt
    seed: int
    sampling: Sampling
    cell: int = -1
    tokens: list[int] = field(default_factory=list)
    pending: list[PlacedToken] = field(default_factory=list)
    log_probability: float = 0.0
    is_finished: bool = False
    reported_cells: int = 0
    _coordinates: CoordinateState = field(init=False)
    _cell_starts: list[int] = field(default_factory=list)
    # The rest of a single-field cell's template, CHOICE where a token is sampled. Empty in a note fill.
    _template: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._coordinates = CoordinateState(self.prompt.gap_bar, self.prompt.cell_steps)
        self._open_cell()

    @property
    def temperature(self) -> float:
        """The temperature of its sampled tokens."""
        return self.sampling.temperature_of(self.prompt)

    @property
    def guidance(self) -> float:
        """The classifier-free guidance scale; 1 is no guidance."""
        return self.sampling.guidance_of(self.prompt)

    @property
    def model_rows(self) -> int:
        """How many rows of the model it takes: a guided candidate takes a second, unconditional row."""
        return 1 if self.guidance == 1 else 2

    @property
    def position(self) -> int:
        """How many tokens the model has read, the prefix included: the position of the next one."""
        return len(self.prompt.prefix) + len(self.tokens) - len(self.pending)

    @property
    def output(self) -> GeneratedFill:
        """The fill so far; complete once the row is finished."""
        return GeneratedFill(tuple(self.tokens), self.log_probability)

    def append(self, token: int, log_probability: float) -> bool:
        """Append a sampled token and the forced tokens after it; return whether that finished a cell."""
        self.log_probability += log_probability
        self._append(token)
        is_cell_finished = self._append_template() or token == END
        if is_cell_finished:
            self._open_cell()
        return is_cell_finished

    def extend(self, tokens: Sequence[int], log_probability: float) -> None:
        """Append tokens that NativeBatch sampled and forced; `log_probability` is the new sum."""
        self.log_probability = log_probability
        for token in tokens:
            self.tokens.append(token)
            if token == END:
                self.cell += 1
                self._cell_starts.append(len(self.tokens))
        self.is_finished = self.cell == len(self.prompt.headers)

    def cell_tokens(self, cell: int) -> tuple[int, ...]:
        """Return the tokens of a finished cell, its header and END included."""
        return tuple(self.tokens[self._cell_starts[cell] : self._cell_starts[cell + 1]])

    def _open_cell(self) -> None:
        headers = self.prompt.headers
        self.cell += 1
        self._cell_starts.append(len(self.tokens))
        self.is_finished = self.cell == len(headers)
        for token in (EOS,) if self.is_finished else headers[self.cell]:
            self._append(token)
        if self.prompt.tables.attributes and not self.is_finished:
            self._template = list(self.prompt.tables.attributes.templates[self.cell])
            self._append_template()

    def _append_template(self) -> bool:
        """Append the fixed tokens up to the next choice; return whether that ended the cell."""
        if not self._template:
            return False
        while self._template and self._template[0] != CHOICE:
            self._append(self._template.pop(0))
        del self._template[:1]
        return self.tokens[-1] == END

    def _append(self, token: int) -> None:
        self.tokens.append(token)
        self.pending.append((token, *self._coordinates.advance(token)))
