"""The shipped engine: one prefill a prompt, its cache shared by all candidates, one model call a step for all rows.

Rows leave the batch in the step they finish. Tokens that the grammar forces are fed together with the drawn one before
them, in one call. Knows nothing of MIDI, files or Ray.
"""

# R rows, T tokens fed at once, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from harmonixr_model.engine.engine import Generated, Sampling
from harmonixr_model.errors import PromptError
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.infill.sample import row_generator, sample
from harmonixr_model.nn.attention import Cache
from harmonixr_model.tokens.coordinates import CoordinateState
from harmonixr_model.tokens.grammar import FillGrammar
from harmonixr_model.tokens.infill import InfillPrompt
from harmonixr_model.tokens.vocab import VOCAB

MAX_ROWS = 32


@dataclass(slots=True)
class _Row:
    """One candidate while it is being made; `pending` are tokens the model has not read yet."""

    number: int
    grammar: FillGrammar
    coordinates: CoordinateState
    generator: torch.Generator
    tokens: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    log_probability: float = 0.0

    def take(self, token: int) -> None:
        """Append a token and every one that the grammar forces after it."""
        self._append(token)
        self.force()

    def force(self) -> None:
        """Append the tokens that leave no choice."""
        while (token := self.grammar.forced) is not None:
            self._append(token)

    def _append(self, token: int) -> None:
        self.grammar.advance(token)
        self.tokens.append(token)
        self.pending.append(token)


class Decoder:
    """Fills prompts with one model, up to MAX_ROWS candidates at a time."""

    def __init__(self, model: InfillTransformer) -> None:
        self.model = model.eval()

    @property
    def max_length(self) -> int:
        """The most tokens a prompt and its fill may take together."""
        return self.model.config.max_length

    @torch.inference_mode()
    def generate(self, prompt: InfillPrompt, *, seeds: Sequence[int], sampling: Sampling) -> list[Generated]:
        """Return one fill a seed, in order; raises PromptError where prompt and fill may outgrow the model."""
        longest = len(prompt.prefix) + prompt.rules.max_tokens
        if longest > self.max_length:
            raise PromptError(
                f"the context of {len(prompt.prefix)} tokens and a fill of up to {prompt.rules.max_tokens} do not fit "
                f"the model's {self.max_length}; choose a smaller region"
            )
        results: list[Generated] = []
        for first in range(0, len(seeds), MAX_ROWS):
            results += self._batch(prompt, seeds[first : first + MAX_ROWS], sampling)
        return results

    def _batch(self, prompt: InfillPrompt, seeds: Sequence[int], sampling: Sampling) -> list[Generated]:
        rows = [
            _Row(number, FillGrammar(prompt.rules), CoordinateState(prompt.gap_bar), row_generator(seed))
            for number, seed in enumerate(seeds)
        ]
        for row in rows:
            row.force()
        cache, slots = self._prefill(prompt, len(rows)), list(rows)
        while slots:
            slots = self._drop_finished(slots, cache, prefix=len(prompt.prefix))
            if slots:
                self._step(slots, cache, prefix=len(prompt.prefix), sampling=sampling)
        return [Generated(tuple(row.tokens), row.log_probability) for row in rows]

    def _prefill(self, prompt: InfillPrompt, rows: int) -> Cache:
        # Rows of a step take as many places as the longest chunk of forced tokens among them.
        slack = max(len(header) for header in prompt.rules.headers) + 2
        cache = self.model.new_cache(rows, len(prompt.prefix) + prompt.rules.max_tokens + slack)
        device = next(self.model.parameters()).device
        tokens_1P = torch.from_numpy(prompt.prefix)[None].long().to(device)
        self.model.prefill(tokens_1P, torch.from_numpy(prompt.coordinates)[None].long().to(device), cache)
        if rows > 1:
            cache.copy_row(0, range(1, rows), length=len(prompt.prefix))
        return cache

    def _drop_finished(self, slots: list[_Row], cache: Cache, *, prefix: int) -> list[_Row]:
        """Keep running rows in the first slots of the cache: the last one moves where one has finished."""
        slots = list(slots)
        place = 0
        while place < len(slots):
            if not slots[place].grammar.finished:
                place += 1
                continue
            last = slots.pop()
            if place < len(slots):
                slots[place] = last
                read = prefix + len(last.tokens) - len(last.pending)
                cache.copy_row(len(slots), [place], length=read)
        return slots

    def _step(self, slots: list[_Row], cache: Cache, *, prefix: int, sampling: Sampling) -> None:
        logits_RV = self._read(slots, cache, prefix=prefix)
        allowed_RV = torch.from_numpy(np.stack([row.grammar.allowed() for row in slots]))
        tokens_R, log_probability_R = sample(
            logits_RV,
            allowed_RV,
            generators=[row.generator for row in slots],
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
        )
        for row, token, log_probability in zip(slots, tokens_R.tolist(), log_probability_R.tolist(), strict=True):
            row.log_probability += log_probability
            row.take(token)

    def _read(self, slots: list[_Row], cache: Cache, *, prefix: int) -> Tensor:
        """Feed every row's pending tokens; return the logits [R, V] after each row's last one, on the CPU.

        Shorter chunks are padded; what padding leaves in the cache lies past its row's end and is overwritten before
        any token may look there.
        """
        device = next(self.model.parameters()).device
        longest = max(len(row.pending) for row in slots)
        tokens_RT = torch.full((len(slots), longest), VOCAB.id("PAD"))
        coordinates_RT3 = torch.zeros(len(slots), longest, 3, dtype=torch.long)
        for i, row in enumerate(slots):
            tokens_RT[i, : len(row.pending)] = torch.tensor(row.pending)
            for t, token in enumerate(row.pending):
                coordinates_RT3[i, t] = torch.tensor(row.coordinates.advance(token))
        positions_R = torch.tensor([prefix + len(row.tokens) - len(row.pending) for row in slots])
        last_R = torch.tensor([len(row.pending) - 1 for row in slots])
        logits_RTV = self.model.extend(
            tokens_RT.to(device), coordinates_RT3.to(device), positions_R.to(device), cache
        ).cpu()
        for row in slots:
            row.pending.clear()
        return logits_RTV[torch.arange(len(slots)), last_R]
