"""Ask two arms, on the grid and with MICRO, about the same gaps: bits for notes and for timing, and drawn fills."""

# N tokens to be predicted, V vocabulary

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.evaluation.likelihood import FIELDS, answer_logits, field_of
from harmonixr_model.evaluation.metrics import Fills, Ratio
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.grid import MICRO
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.layout import decode_fill

# Nothing is left out: distributions are compared.
DRAWN = Sampling(temperature=1.0, top_p=1.0, copy_strength=0.0)
FURTHEST = VOCAB.micro.size // 2
Measured = list[tuple[str, Ratio]]


@dataclass(slots=True)
class Bits:
    """Bits of true answers by what they say, and how far in ms the guessed offsets are from the true ones.

    `grid_ms` is the error of saying nothing. `joining` are notes whose step has a note before them.
    """

    notes: Measured = field(default_factory=list)
    by_field: dict[str, Measured] = field(default_factory=lambda: {name: [] for name in FIELDS})
    timing: Measured = field(default_factory=list)
    guessed_ms: Measured = field(default_factory=list)
    grid_ms: Measured = field(default_factory=list)
    joining_guessed_ms: Measured = field(default_factory=list)
    joining_grid_ms: Measured = field(default_factory=list)
    tokens: Measured = field(default_factory=list)


def same_gaps(
    one: Sequence[EvaluationItem], other: Sequence[EvaluationItem]
) -> list[tuple[EvaluationItem, EvaluationItem]]:
    """Pair the questions that ask both sides for the same notes: with MICRO, fewer gaps fit."""
    beside = {_gap(question): question for question in other}
    return [(question, beside[_gap(question)]) for question in one if _gap(question) in beside]


def _gap(question: EvaluationItem) -> tuple[object, ...]:
    return question.number, question.piece_id, question.shape, question.notes


def ask_bits(model: InfillTransformer, asked: Sequence[EvaluationItem]) -> Bits:
    """Return what the model gives to the true answers."""
    found = Bits()
    for question in asked:
        said = [int(t) for t, forced in zip(question.fill, question.is_forced, strict=True) if not forced]
        by_field, timing, guesses = split_bits(answer_logits(model, question), said)
        piece, count = question.piece_id, question.notes
        found.notes.append((piece, Ratio(sum(by_field.values()), count)))
        for name, bits in by_field.items():
            found.by_field[name].append((piece, Ratio(bits, count)))
        found.timing.append((piece, Ratio(timing, count)))
        found.tokens.append((piece, Ratio(len(said), count)))
        _take_errors(found, question, guesses)
    return found


def split_bits(logits_NV: Tensor, said: Sequence[int]) -> tuple[dict[str, float], float, list[int]]:
    """Return the bits of notes on the grid by FIELDS, those of their offsets, and the median offset guessed for each.

    After a PITCH, MICRO or its absence is the offset's; a DUR then costs what it would if no MICRO could come.
    """
    log_NV = logits_NV.double().log_softmax(-1)
    notes, timing = dict.fromkeys(FIELDS, 0.0), 0.0
    guesses: list[int] = []
    for n, token in enumerate(said):
        bits = -float(log_NV[n, token]) / math.log(2)
        if n == 0 or said[n - 1] not in VOCAB.pitch:
            notes[field_of(token)] += bits
            continue
        chance = log_NV[n, VOCAB.micro.start : VOCAB.micro.stop].exp().numpy()
        none = max(1e-12, 1 - float(chance.sum()))
        chance[FURTHEST] += none
        guesses.append(int(np.searchsorted(chance.cumsum(), 0.5)) - FURTHEST)
        offset_bits = bits if token in VOCAB.micro else -math.log2(none)
        timing += offset_bits
        notes[field_of(token)] += bits - offset_bits
    return notes, timing, guesses


def _take_errors(found: Bits, question: EvaluationItem, guesses: Sequence[int]) -> None:
    score, guessed = question.context.score, iter(guesses)
    sums = np.zeros((2, 3))  # [all notes, those that join another] x [guessed, grid, count]
    for notes in question.answer:
        before = -1
        for note in notes:
            ms = 1000 * (score.seconds(note.onset + 1) - score.seconds(note.onset)) / MICRO
            row = np.array([abs(next(guessed) - note.micro) * ms, abs(note.micro) * ms, 1])
            sums[0] += row
            if note.onset == before:
                sums[1] += row
            before = note.onset
    measured = ((found.guessed_ms, found.grid_ms), (found.joining_guessed_ms, found.joining_grid_ms))
    for (by_model, by_grid), (error, on_grid, count) in zip(measured, sums.tolist(), strict=True):
        by_model.append((question.piece_id, Ratio(error, count)))
        by_grid.append((question.piece_id, Ratio(on_grid, count)))


def draw_fills(model: InfillTransformer, asked: Sequence[EvaluationItem], *, samples: int) -> list[list[Fills]]:
    """Return `samples` fills of each question."""
    decoder = Decoder(model, compiled=True)
    jobs = [(question.prompt, question.number * samples + i) for question in asked for i in range(samples)]
    made = decoder.generate_each(jobs, sampling=DRAWN)
    fills = [decode_fill(prompt, generated.tokens) for (prompt, _), generated in zip(jobs, made, strict=True)]
    return [fills[i : i + samples] for i in range(0, len(fills), samples)]


def jittered(fills: Sequence[Sequence[Fills]], *, seed: int = 0) -> list[list[Fills]]:
    """Return fills on the grid with each note moved by chance within its step: what needs no model."""
    rng = np.random.default_rng(seed)

    def moved(fill: Fills) -> Fills:
        return [[n._replace(micro=int(rng.integers(-FURTHEST, FURTHEST + 1))) for n in notes] for notes in fill]

    return [[moved(fill) for fill in drawn] for drawn in fills]
