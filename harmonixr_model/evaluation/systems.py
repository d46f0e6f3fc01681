"""Who answers: a model or a baseline, each with what it can do. Knows nothing of protocols' shapes or of reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from harmonixr_model.data.collate import Batch, collate
from harmonixr_model.engine.engine import Engine, Sampling
from harmonixr_model.evaluation.baselines import MarkovBaseline, copy_bar, copy_passage
from harmonixr_model.evaluation.protocol import Question, hide_future
from harmonixr_model.infill.loss import infill_loss
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.score import Note
from harmonixr_model.tokens.infill import decode_fill


@dataclass(frozen=True, slots=True)
class System:
    """A name and what it can do: say how many bits an answer takes, or fill a gap (one list of notes a cell)."""

    name: str
    bits: Callable[[Question], float] | None = None
    fills: Callable[[Question], Sequence[Sequence[Sequence[Note]]]] | None = None


def model_system(
    model: InfillTransformer, engine: Engine, *, samples: int, sampling: Sampling, name: str = "model"
) -> System:
    """Return a trained model as a system; with `samples` 0 it only says bits."""
    return System(
        name,
        bits=partial(answer_bits, model),
        fills=partial(_sampled, engine, samples=samples, sampling=sampling) if samples else None,
    )


def blind_system(model: InfillTransformer, *, name: str = "model, future hidden") -> System:
    """Return the same model shown nothing after the gap; it only says bits. What it lacks is what infilling gains."""
    return System(name, bits=lambda question: answer_bits(model, hide_future(question)))


def baseline_systems(markov: MarkovBaseline) -> list[System]:
    """Return the baselines: three copies and two chains."""
    return [
        System("copy the bar before", fills=lambda question: [copy_bar(question, "previous")]),
        System("copy the bar after", fills=lambda question: [copy_bar(question, "next")]),
        System("copy the most alike passage", fills=lambda question: [copy_passage(question)]),
        System("Markov chain of order 2", bits=markov.bits),
        System("PPM primed on the song", bits=markov.bits_of_primed_ppm),
    ]


@torch.inference_mode()
def answer_bits(model: InfillTransformer, question: Question) -> float:
    """Return the bits the model gives to the true answer, END included, without the grammar's help."""
    batch = collate([question.example()])
    device = next(model.parameters()).device
    moved = Batch(
        tokens_BT=batch.tokens_BT.to(device),
        coordinates_BTK=batch.coordinates_BTK.to(device),
        prefix_length_B=batch.prefix_length_B.to(device),
        length_B=batch.length_B.to(device),
        loss_mask_BT=batch.loss_mask_BT.to(device),
    )
    nats_N, _ = infill_loss(model, moved)
    return float(nats_N.sum()) / math.log(2)


def _sampled(
    engine: Engine, question: Question, *, samples: int, sampling: Sampling
) -> Sequence[Sequence[Sequence[Note]]]:
    # A stream of its own for every sample of every question.
    seeds = [question.number * samples + i for i in range(samples)]
    made = engine.generate(question.prompt, seeds=seeds, sampling=sampling)
    return [decode_fill(question.prompt, generated.tokens) for generated in made]
