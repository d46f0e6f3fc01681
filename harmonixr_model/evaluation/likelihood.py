"""The bits that a model gives to the human original: in all, by field, and with the grammar enforced."""

# N predicted tokens, V vocabulary

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from harmonixr_model.data.collate import collate
from harmonixr_model.errors import TokenError
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.grammar.fill_grammar import open_grammar
from harmonixr_model.infill.loss import predicting_mask
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.copy_pointer import CopyPointer, Guess

BITS = "bits per note"
WITH_GRAMMAR = "bits per note, grammar enforced"
FIELDS = ("onset", "pitch", "duration", "velocity")
_BLOCKS = {"pitch": VOCAB.pitch, "duration": VOCAB.duration, "velocity": VOCAB.velocity}


def field_of(token: int) -> str:
    """Return the note field of a fill's token. END counts as an onset: no further note begins."""
    return next((field for field, block in _BLOCKS.items() if token in block), "onset")


def bits_by_field(tokens: Iterable[int], bits: Iterable[float], *, total: str = BITS) -> dict[str, float]:
    """Return the bits of all tokens, named `total`, and of each field, named `total, FIELD`; the fields sum to it.

    A token's bits count for its own field, even if it replaces a token of another one: a PITCH also encodes that the
    chord continues.
    """
    sums = {total: 0.0} | {f"{total}, {field}": 0.0 for field in FIELDS}
    for token, value in zip(tokens, bits, strict=True):
        sums[total] += value
        sums[f"{total}, {field_of(token)}"] += value
    return sums


def target_bits(model: InfillTransformer, item: EvaluationItem) -> float:
    """Return the model's bits for the original, END included, without the grammar."""
    return measured_bits(model, item, with_grammar=False)[BITS]


@torch.inference_mode()
def measured_bits(model: InfillTransformer, item: EvaluationItem, *, with_grammar: bool = True) -> dict[str, float]:
    """Return the bits of the original by measure: BITS by field, and WITH_GRAMMAR by field.

    A model with a copy gate uses its copy pointer, as in decoding. With the grammar, forbidden tokens have probability
    zero, as in decoding. Music that violates the grammar (a pitch that starts while it sounds on its channel) cannot be
    decoded, and has no bits of this kind.
    """
    tokens = item.predicted_tokens()
    logits_NV = target_logits(model, item)
    if model.copy_gate is not None:
        guesses = [guess for _, guess in targets_and_guesses(item)]
        logits_NV = model.copy_gate.mix(logits_NV, guesses, copy_strength=[1.0] * len(guesses))
    targets_N = torch.tensor(tokens, device=logits_NV.device)
    measured = bits_by_field(tokens, _bits(logits_NV, targets_N))
    allowed_NV = allowed_tokens(item) if with_grammar else None
    if allowed_NV is not None:
        logits_NV = logits_NV.masked_fill(~allowed_NV.to(logits_NV.device), -math.inf)
        measured |= bits_by_field(tokens, _bits(logits_NV, targets_N), total=WITH_GRAMMAR)
    return measured


def allowed_tokens(item: EvaluationItem) -> Tensor | None:
    """Return the tokens that the grammar allows at each predicted token, bool [N, V]; None if the fill violates it."""
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


def targets_and_guesses(item: EvaluationItem) -> Iterator[tuple[int, Guess | None]]:
    """Yield each predicted token of the original, with the copy pointer's guess from similar passages."""
    if not item.prompt.copy_sources:
        yield from ((token, None) for token in item.predicted_tokens())
        return
    pointer = CopyPointer(item.prompt.copy_sources)
    for number, (_, run) in enumerate(item.predicted_runs()):
        pointer.open_cell(number)
        for token in run:
            yield token, pointer.guess()
            pointer.advance(token)


@torch.inference_mode()
def target_logits(model: InfillTransformer, item: EvaluationItem) -> Tensor:
    """Return the model's logits at each predicted token, without the copy pointer, float32 [N, V]."""
    batch = collate([item.example()])
    device = next(model.parameters()).device
    logits_NV: Tensor = model(
        batch.tokens_BT.to(device),
        batch.coordinates_BTK.to(device),
        batch.prefix_length_B.to(device),
        batch.length_B.to(device),
        chosen_BT=predicting_mask(batch.loss_mask_BT.to(device)),
    )
    return logits_NV.float()


def _bits(logits_NV: Tensor, targets_N: Tensor) -> list[float]:
    nats_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")
    bits: list[float] = (nats_N / math.log(2)).tolist()
    return bits
