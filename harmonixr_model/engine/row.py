"""One candidate while it is being made: what it has said, and what of that the model has not read yet.

Knows the layout of a fill (headers are forced, END closes a cell, of an attribute-only answer all but the asked field
is known), no model and no grammar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harmonixr_model.engine.engine import GeneratedFill, Sampling
from harmonixr_model.grammar.attribute_tables import CHOICE
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import CoordinateState
from harmonixr_model.prompt.layout import InfillPrompt

END, EOS = VOCAB.id("END"), VOCAB.id("EOS")

# A token and its coordinates: (token, bar, step, slot, token before, what is asked).
Placed = tuple[int, int, int, int, int, tuple[int, ...]]


@dataclass(slots=True, eq=False)
class Row:
    """A candidate. `cell` is the one being said; `pending` are tokens that the model has not read yet."""

    prompt: InfillPrompt
    seed: int
    sampling: Sampling
    cell: int = -1
    tokens: list[int] = field(default_factory=list)
    pending: list[Placed] = field(default_factory=list)
    log_probability: float = 0.0
    is_finished: bool = False
    # Of how many cells whoever follows the row has been told.
    told: int = 0
    _coordinates: CoordinateState = field(init=False)
    _cell_starts: list[int] = field(default_factory=list)
    # Of an attribute-only cell's template, what comes after what is said.
    _left: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._coordinates = CoordinateState(self.prompt.gap_bar, self.prompt.cell_steps)
        self._open_cell()

    @property
    def temperature(self) -> float:
        """At which its tokens are drawn."""
        return self.sampling.temperature_of(self.prompt)

    @property
    def guidance(self) -> float:
        """How far it leans towards what it is asked; 1 is as the model says."""
        return self.sampling.guidance_of(self.prompt)

    @property
    def readers(self) -> int:
        """How many rows of the model read it: a guided one is read without what it is asked as well."""
        return 1 if self.guidance == 1 else 2

    @property
    def position(self) -> int:
        """How many tokens, the prompt's included, the model has read: where the next one goes."""
        return len(self.prompt.prefix) + len(self.tokens) - len(self.pending)

    @property
    def generated(self) -> GeneratedFill:
        """The fill so far; whole once finished."""
        return GeneratedFill(tuple(self.tokens), self.log_probability)

    def take(self, token: int, log_probability: float) -> bool:
        """Append a drawn token and every one that is forced after it; return whether that closed a cell."""
        self.log_probability += log_probability
        self._append(token)
        is_closed = self._follow() or token == END
        if is_closed:
            self._open_cell()
        return is_closed

    def catch_up(self, tokens: Sequence[int], log_probability: float) -> None:
        """Take all that was said since, forced tokens included, where a batch keeps the row's state itself."""
        self.log_probability = log_probability
        for token in tokens:
            self.tokens.append(token)
            if token == END:
                self.cell += 1
                self._cell_starts.append(len(self.tokens))
        self.is_finished = self.cell == len(self.prompt.headers)

    def said(self, cell: int) -> tuple[int, ...]:
        """Return the tokens of a decided cell, its header and END included."""
        return tuple(self.tokens[self._cell_starts[cell] : self._cell_starts[cell + 1]])

    def _open_cell(self) -> None:
        headers = self.prompt.headers
        self.cell += 1
        self._cell_starts.append(len(self.tokens))
        self.is_finished = self.cell == len(headers)
        for token in (EOS,) if self.is_finished else headers[self.cell]:
            self._append(token)
        if self.prompt.tables.attributes and not self.is_finished:
            self._left = list(self.prompt.tables.attributes.templates[self.cell])
            self._follow()

    def _follow(self) -> bool:
        """Append what an attribute-only template forces up to the next choice; return whether that ended its cell."""
        if not self._left:
            return False
        while self._left and self._left[0] != CHOICE:
            self._append(self._left.pop(0))
        del self._left[:1]
        return self.tokens[-1] == END

    def _append(self, token: int) -> None:
        self.tokens.append(token)
        self.pending.append((token, *self._coordinates.advance(token)))
