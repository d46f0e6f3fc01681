"""The shipped engine: a prompt is read once for all its candidates, and a step is one model call for all rows.

Rows may answer different prompts. They leave the batch in the step they finish or are cancelled. Tokens that the
grammar forces are fed together with the drawn one before them, in one call. Knows nothing of MIDI, files or Ray.
"""

# R rows, T tokens fed at once, V vocabulary

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harmonixr_model.engine.engine import Generated, Job, Sampling
from harmonixr_model.engine.masks import open_masks
from harmonixr_model.errors import PromptError
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.infill.sample import row_generator, sample
from harmonixr_model.nn.attention import Cache
from harmonixr_model.tokens.coordinates import COORDINATE_SIZES, CoordinateState
from harmonixr_model.tokens.infill import InfillPrompt
from harmonixr_model.tokens.vocab import VOCAB

MAX_ROWS = 32
END, EOS = VOCAB.id("END"), VOCAB.id("EOS")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Row:
    """One candidate while it is being made; `pending` are tokens the model has not read yet."""

    number: int
    prompt: InfillPrompt
    coordinates: CoordinateState
    generator: torch.Generator
    cell: int = -1
    tokens: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    log_probability: float = 0.0
    is_finished: bool = False
    is_cancelled: bool = False

    @classmethod
    def open(cls, number: int, prompt: InfillPrompt, seed: int) -> _Row:
        """Return a row at its first choice."""
        row = cls(number, prompt, CoordinateState(prompt.gap_bar), row_generator(seed))
        row._open_cell()
        return row

    @property
    def is_done(self) -> bool:
        """Whether the row needs no more steps."""
        return self.is_cancelled or self.is_finished

    @property
    def position(self) -> int:
        """How many tokens of the row the model has read: where the next one goes."""
        return len(self.prompt.prefix) + len(self.tokens) - len(self.pending)

    def take(self, token: int) -> None:
        """Append a token and every one that is forced after it."""
        self._append([token])
        if token == END:
            self._open_cell()

    def _open_cell(self) -> None:
        headers = self.prompt.rules.headers
        self.cell += 1
        self.is_finished = self.cell == len(headers)
        self._append([EOS] if self.is_finished else headers[self.cell].tolist())

    def _append(self, tokens: list[int]) -> None:
        self.tokens += tokens
        self.pending += tokens


class Decoder:
    """Fills prompts with one model, up to MAX_ROWS candidates at a time."""

    def __init__(self, model: InfillTransformer) -> None:
        self.model = model.eval()
        _log.info("decoding runs eagerly", extra={"device": str(model.norm.weight.device)})

    @property
    def max_length(self) -> int:
        """The most tokens a prompt and its fill may take together."""
        return self.model.config.max_length

    def generate(self, prompt: InfillPrompt, *, seeds: Sequence[int], sampling: Sampling) -> list[Generated]:
        """Return one fill a seed, in order; raises PromptError where prompt and fill may outgrow the model."""
        return self.generate_each([(prompt, seed) for seed in seeds], sampling=sampling)

    def generate_each(self, jobs: Sequence[Job], *, sampling: Sampling) -> list[Generated]:
        """Return one fill a (prompt, seed), in order; raises PromptError as `generate` does."""
        results: list[Generated | None] = []
        for first in range(0, len(jobs), MAX_ROWS):
            run = self.start(jobs[first : first + MAX_ROWS], sampling=sampling)
            while not run.finished:
                run.step()
            results += run.results()
        return [result for result in results if result is not None]

    def start(self, jobs: Sequence[Job], *, sampling: Sampling) -> DecodeRun:
        """Read the prompts and return the run that answers them step by step."""
        for prompt, _ in jobs:
            if len(prompt.prefix) + prompt.rules.max_tokens > self.max_length:
                raise PromptError(
                    f"the context of {len(prompt.prefix)} tokens and a fill of up to {prompt.rules.max_tokens} do not "
                    f"fit the model's {self.max_length}; choose a smaller region"
                )
        return DecodeRun(self.model, jobs, sampling)


class DecodeRun:
    """Candidates being made together: `step` until `finished`, `cancel` in between, then `results`."""

    @torch.inference_mode()
    def __init__(self, model: InfillTransformer, jobs: Sequence[Job], sampling: Sampling) -> None:
        self._model = model
        self._device = model.norm.weight.device
        self._sampling = sampling
        self._rows = [_Row.open(number, prompt, seed) for number, (prompt, seed) in enumerate(jobs)]
        self._slots = list(self._rows)  # slot i of the cache is that of row _slots[i]
        self._masks = open_masks([row.prompt.rules for row in self._rows], device=self._device)
        self._cache = self._prefill()

    @property
    def running(self) -> int:
        """How many rows are still being made."""
        return sum(not row.is_done for row in self._slots)

    @property
    def said(self) -> int:
        """How many tokens all rows have by now, forced ones included."""
        return sum(len(row.tokens) for row in self._rows)

    @property
    def finished(self) -> bool:
        """Whether every row has its fill or is cancelled."""
        return self.running == 0

    @torch.inference_mode()
    def step(self) -> None:
        """Draw one token, and those it forces, for every row still running."""
        self._drop_done()
        if not self._slots:
            return
        logits_RV, allowed_RV = self._read(), self._masks.mask()
        tokens_R, log_probability_R = sample(
            logits_RV.to(allowed_RV.device),
            allowed_RV,
            generators=[row.generator for row in self._slots],
            temperature=self._sampling.temperature,
            top_k=self._sampling.top_k,
            top_p=self._sampling.top_p,
        )
        self._masks.advance(tokens_R)
        for row, token, log_probability in zip(self._slots, tokens_R.tolist(), log_probability_R.tolist(), strict=True):
            row.log_probability += log_probability
            row.take(token)

    def cancel(self, number: int) -> None:
        """Give up the row of job `number`: its place is free from the next step on."""
        self._rows[number].is_cancelled = True

    def results(self) -> list[Generated | None]:
        """Return the fills in the jobs' order; None for those cancelled or unfinished."""
        return [
            Generated(tuple(row.tokens), row.log_probability) if row.is_finished and not row.is_cancelled else None
            for row in self._rows
        ]

    def _prefill(self) -> Cache:
        # Rows of a step take as many places as the longest chunk of forced tokens among them.
        slack = max((len(header) for row in self._rows for header in row.prompt.rules.headers), default=0) + 2
        longest = max((len(row.prompt.prefix) + row.prompt.rules.max_tokens for row in self._rows), default=0)
        cache = self._model.new_cache(len(self._rows), longest + slack)
        first_slots: dict[int, int] = {}
        for slot, row in enumerate(self._rows):
            prefix = row.prompt.prefix
            first = first_slots.setdefault(id(row.prompt), slot)
            if first != slot:
                cache.copy_row(first, [slot], length=len(prefix))
                continue
            tokens_1P = torch.from_numpy(prefix)[None].long().to(self._device)
            coordinates_1P3 = torch.from_numpy(row.prompt.coordinates)[None].long().to(self._device)
            self._model.prefill(tokens_1P, coordinates_1P3, cache, slot)
        return cache

    def _drop_done(self) -> None:
        """Keep running rows in the first slots of the cache: the last one moves where one is done."""
        slots, place = self._slots, 0
        while place < len(slots):
            if not slots[place].is_done:
                place += 1
                continue
            last = slots.pop()
            if place < len(slots):
                slots[place] = last
                self._masks.move(len(slots), place)
                self._cache.copy_row(len(slots), [place], length=last.position)
        self._masks.rows = len(slots)

    def _read(self) -> Tensor:
        """Feed every row's pending tokens; return the logits [R, V] after each row's last one.

        Shorter chunks are padded; what padding leaves in the cache lies past its row's end and is overwritten before
        any token may look there.
        """
        rows = self._slots
        longest = max(len(row.pending) for row in rows)
        tokens_RT = torch.full((len(rows), longest), VOCAB.id("PAD"))
        coordinates_RT3 = torch.zeros(len(rows), longest, len(COORDINATE_SIZES), dtype=torch.long)
        for i, row in enumerate(rows):
            tokens_RT[i, : len(row.pending)] = torch.tensor(row.pending)
            for t, token in enumerate(row.pending):
                coordinates_RT3[i, t] = torch.tensor(row.coordinates.advance(token))
        positions_R = torch.tensor([row.position for row in rows])
        last_R = torch.tensor([len(row.pending) - 1 for row in rows])
        logits_RTV = self._model.extend(
            tokens_RT.to(self._device), coordinates_RT3.to(self._device), positions_R.to(self._device), self._cache
        )
        for row in rows:
            row.pending.clear()
        chosen_R = torch.arange(len(rows), device=self._device)
        return logits_RTV[chosen_R, last_R.to(self._device)]
