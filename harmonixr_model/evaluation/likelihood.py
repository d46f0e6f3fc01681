"""How many bits a model gives to what was there: in all, by field, and when it may say valid fills only.

Knows nothing of sampling or reports.
"""

# N tokens to be predicted, V vocabulary

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from harmonixr_model.data.collate import Batch, collate
from harmonixr_model.errors import TokenError
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.grammar.fill_grammar import open_grammar
from harmonixr_model.infill.loss import predicting_mask
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.copy_pointer import CopyPointer, Guess

BITS = "bits per note"
WITH_GRAMMAR = "bits per note, grammar kept"
FIELDS = ("onset", "pitch", "duration", "velocity")
END = VOCAB.id("END")


def field_of(token: int) -> str:
    """Return what a token of an answer says. END counts with onsets: no further note begins."""
    if token in VOCAB.pitch:
        return "pitch"
    if token in VOCAB.duration:
        return "duration"
    if token in VOCAB.velocity:
        return "velocity"
    return "onset"


def by_field(tokens: Iterable[int], bits: Iterable[float], *, total: str = BITS) -> dict[str, float]:
    """Return the bits in all, named `total`, and those of each field, named `total, FIELD`; they sum to it.

    A token's bits count for what it says: that a chord goes on is told by PITCH where POS or END might stand.
    """
    sums = {total: 0.0} | {f"{total}, {field}": 0.0 for field in FIELDS}
    for token, said in zip(tokens, bits, strict=True):
        sums[total] += said
        sums[f"{total}, {field_of(token)}"] += said
    return sums


def target_bits(model: InfillTransformer, item: EvaluationItem) -> float:
    """Return the bits the model gives to the true answer, END included, without the grammar's help."""
    return measured_bits(model, item, with_grammar=False)[BITS]


@torch.inference_mode()
def measured_bits(model: InfillTransformer, item: EvaluationItem, *, with_grammar: bool = True) -> dict[str, float]:
    """Return the bits of the true answer by measure: BITS and its fields, and the same with the grammar kept.

    A model with a pointer says them with it, as it decodes.

    With it, what the grammar forbids has no probability, as in decoding. Some music breaks it (a pitch struck again on
    the channel where it still sounds): it could not be decoded, and has no bits of that kind.
    """
    tokens = [int(token) for token, forced in zip(item.fill, item.is_forced, strict=True) if not forced]
    logits_NV = answer_logits(model, item)
    if model.copy_gate is not None:
        guesses = [guess for _, guess in walk(item)]
        logits_NV = model.copy_gate.mix(logits_NV, guesses, copy_strength=[1.0] * len(guesses))
    targets_N = torch.tensor(tokens, device=logits_NV.device)
    measured = by_field(tokens, _bits(logits_NV, targets_N))
    allowed_NV = allowed_tokens(item) if with_grammar else None
    if allowed_NV is not None:
        kept_NV = logits_NV.masked_fill(~allowed_NV.to(logits_NV.device), -math.inf)
        measured |= by_field(tokens, _bits(kept_NV, targets_N), total=WITH_GRAMMAR)
    return measured


def allowed_tokens(item: EvaluationItem) -> Tensor | None:
    """Return what the grammar allows in place of each token to be predicted, bool [N, V]; None if the answer breaks it.

    Forced tokens are walked over.
    """
    grammar = open_grammar(item.prompt.tables)
    allowed = []
    try:
        for token, forced in zip(item.fill.tolist(), item.is_forced.tolist(), strict=True):
            if not forced:
                allowed.append(torch.from_numpy(grammar.allowed()))
            grammar.advance(token)
    except TokenError:
        return None
    return torch.stack(allowed)


def walk(item: EvaluationItem) -> Iterator[tuple[int, Guess | None]]:
    """Yield each token to be predicted of the true answer, and what the song's own passages guess in its place."""
    if not item.prompt.copy_sources:
        yield from ((int(t), None) for t, forced in zip(item.fill, item.is_forced, strict=True) if not forced)
        return
    pointers = CopyPointer(item.prompt.copy_sources)
    for number, (_, run) in enumerate(item.predicted_runs()):
        pointers.open_cell(number)
        for token in run:
            yield token, pointers.guess()
            pointers.advance(token)


@torch.inference_mode()
def answer_logits(model: InfillTransformer, item: EvaluationItem) -> Tensor:
    """Return what the model alone thinks in place of each token to be predicted: logits, float32 [N, V]."""
    batch = collate([item.example()])
    device = next(model.parameters()).device
    moved = Batch(*(tensor.to(device) for tensor in _tensors(batch)))
    asked_BT = predicting_mask(moved.loss_mask_BT)
    logits_NV: Tensor = model(
        moved.tokens_BT, moved.coordinates_BTK, moved.prefix_length_B, moved.length_B, chosen_BT=asked_BT
    )
    return logits_NV.float()


def _tensors(batch: Batch) -> Sequence[Tensor]:
    return batch.tokens_BT, batch.coordinates_BTK, batch.prefix_length_B, batch.length_B, batch.loss_mask_BT


def _bits(logits_NV: Tensor, targets_N: Tensor) -> list[float]:
    nats_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")
    bits: list[float] = (nats_N / math.log(2)).tolist()
    return bits
