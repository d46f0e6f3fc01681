"""Classifier-free guidance (Ho and Salimans 2022): lean further towards the controls than the model does by itself.

Each candidate is decoded twice side by side, with its controls and without; the grammar masks what the two together
say. Plain PyTorch, for the library and the command line. Knows nothing of queues or files.
"""

# N candidates, R = 2N rows, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from harmonixr_model.engine.chooser import PlainChooser
from harmonixr_model.engine.engine import Generated, Job, Sampling
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.runner import EagerRunner
from harmonixr_model.errors import ControlError
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.tokens.infill import InfillPrompt


def without_controls(prompt: InfillPrompt) -> InfillPrompt:
    """Return the prompt as it would be with no soft control asked; its rules stay those of the first."""
    headers = tuple(_without(header, cell.controls) for header, cell in zip(prompt.headers, prompt.cells, strict=True))
    return replace(
        prompt,
        headers=headers,
        cells=tuple(replace(cell, controls=()) for cell in prompt.cells),
    )


def generate_guided(model: InfillTransformer, jobs: Sequence[Job], *, sampling: Sampling, rows: int) -> list[Generated]:
    """Return one fill a job, `rows` candidates at a time at most; raises ControlError where a prompt asks nothing.

    Logits are plain + guidance x (controlled - plain); a log probability is that of the two together, masked.
    """
    done: list[Generated] = []
    for start in range(0, len(jobs), rows):
        done += _generate(model, jobs[start : start + rows], sampling)
    return done


@torch.inference_mode()
def _generate(model: InfillTransformer, jobs: Sequence[Job], sampling: Sampling) -> list[Generated]:
    pairs = [_Pair(prompt, seed, sampling) for prompt, seed in jobs]
    # Headers enter whole: rows of a step take as many places as the longest of them.
    length = max(len(prompt.prefix) + prompt.rules.max_tokens + max(map(len, prompt.headers)) for prompt, _ in jobs)
    runner, chooser = EagerRunner(model, rows=2 * len(pairs), length=length), PlainChooser()
    for place, pair in enumerate(pairs):
        for side, row in enumerate(pair.rows):
            _join(runner, 2 * place + side, row)
        chooser.join(place, pair.asked)
    running = list(pairs)
    while running:
        rows = [row for pair in running for row in pair.rows]
        positions = [row.position for row in rows]
        logits_RV = runner.feed([row.pending for row in rows], positions).log_softmax(-1)
        for row in rows:
            row.pending.clear()
        asked_NV, plain_NV = logits_RV[0::2], logits_RV[1::2]
        guided_NV = plain_NV + sampling.guidance * (asked_NV - plain_NV)
        for pair, drawn in zip(running, chooser.choose(guided_NV, range(len(running))), strict=True):
            for row in pair.rows:
                row.take(*drawn)
        for place in reversed(range(len(running))):
            if running[place].asked.is_finished:
                _leave(runner, chooser, running, place)
    return [pair.asked.generated for pair in pairs]


class _Pair:
    """A candidate: the row that reads what is asked, and the one that does not."""

    def __init__(self, prompt: InfillPrompt, seed: int, sampling: Sampling) -> None:
        plain = without_controls(prompt)
        if plain.headers == prompt.headers:
            raise ControlError("guidance leans towards soft controls and none is asked; ask for one, or leave it at 1")
        self.asked, self.plain = Row(prompt, seed, sampling), Row(plain, seed, sampling)

    @property
    def rows(self) -> tuple[Row, Row]:
        """Both rows, the asked one first."""
        return self.asked, self.plain


def _join(runner: EagerRunner, place: int, row: Row) -> None:
    reading = runner.read(row.prompt)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            runner.join(place, end.value, row.prompt)
            return


def _leave(runner: EagerRunner, chooser: PlainChooser, running: list[_Pair], place: int) -> None:
    """Take a finished pair out; the last one moves to its places."""
    last = running[-1]
    for side in (1, 0):
        runner.leave(2 * place + side, 2 * (len(running) - 1) + side, length=last.rows[side].position)
    chooser.leave(place, len(running) - 1)
    running[place] = last
    running.pop()


def _without(header: tuple[int, ...], controls: tuple[int, ...]) -> tuple[int, ...]:
    """Return a cell's header less its controls, which stand after TRACK and before what is held."""
    for start in range(len(header) - len(controls) + 1):
        if controls and header[start : start + len(controls)] == controls:
            return header[:start] + header[start + len(controls) :]
    return header
