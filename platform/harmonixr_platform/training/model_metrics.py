"""Measure an infill model on a set of gaps: likelihood, validity, latency and diversity."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import GeneratedFill, Sampling
from harmonixr_model.fill.session import FillSession
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.infill.packed import log_probabilities, pack
from harmonixr_model.notes.encoded_score import EncodedScore
from harmonixr_model.notes.grid import quantize
from harmonixr_model.prompt.fill_tokens import decode_fill, encode_fill, target_notes
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.training.composed_gaps import Gap


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """The metrics of a model on a set of gaps.

    Attributes:
        gaps: the number of gaps.
        nats: mean negative log-likelihood of the original notes, a sampled token, under the grammar mask.
        valid: share of fills that are not empty and that the song takes with every note.
        seconds: median time of a fill, with all fills of a gap in one batch.
        diversity: mean distance of two fills of a gap: one minus their share of common notes (onset, pitch).
        repeated: share of fills that equal an earlier fill of the gap.

    """

    gaps: int
    nats: float
    valid: float
    seconds: float
    diversity: float
    repeated: float


def measure_model(
    model: InfillTransformer,
    gaps: Sequence[Gap],
    *,
    fills: int,
    seed: int,
    sampling: Sampling | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> ModelMetrics:
    """Return the metrics of `model` on `gaps`, with `fills` fills each, sampled with the seeds from `seed` on."""
    decoder, max_length = Decoder(model), model.config.max_length
    nats: list[float] = []
    valid: list[bool] = []
    seconds: list[float] = []
    distances: list[float] = []
    repeated: list[bool] = []
    for number, gap in enumerate(gaps):
        prompt = only_prompt(gap, max_length=max_length)
        nats.append(_nats(model, gap, prompt))
        started = time.perf_counter()
        made = decoder.generate(
            prompt,
            seeds=[seed + number * fills + i for i in range(fills)],
            sampling=sampling or Sampling(copy_strength=0),
        )
        seconds.append((time.perf_counter() - started) / fills)
        valid += [_is_valid(gap, fill, max_length=max_length) for fill in made]
        notes = [frozenset((n.onset, n.pitch) for cell in decode_fill(prompt, f.tokens) for n in cell) for f in made]
        distances += [_distance(a, b) for a, b in combinations(notes, 2)]
        repeated += [fill.tokens in {other.tokens for other in made[:i]} for i, fill in enumerate(made)]
        progress(number + 1)
    return ModelMetrics(
        gaps=len(gaps),
        nats=statistics.fmean(nats),
        valid=statistics.fmean(valid),
        seconds=statistics.median(seconds),
        diversity=statistics.fmean(distances) if distances else 0.0,
        repeated=statistics.fmean(repeated),
    )


def kl_divergence(
    policy: InfillTransformer, reference: InfillTransformer, prompt: InfillPrompt, fills: Sequence[GeneratedFill]
) -> float:
    """Return the Kullback-Leibler divergence from the reference, in nats a fill, estimated from the policy's fills."""
    packed = pack(prompt, [fill.tokens for fill in fills])
    with torch.no_grad():
        return float((log_probabilities(policy, packed) - log_probabilities(reference, packed)).mean())


def only_prompt(gap: Gap, *, max_length: int) -> InfillPrompt:
    """Return the only prompt of a gap of `composed_gaps`."""
    prompt = FillSession(gap.song, gap.region, max_length=max_length).next_prompt()
    assert prompt is not None
    return prompt


def _nats(model: InfillTransformer, gap: Gap, prompt: InfillPrompt) -> float:
    """Return the nats a sampled token of the composer's own notes in the gap."""
    target, _ = encode_fill(prompt, target_notes(prompt, EncodedScore(quantize(gap.song.score))))
    packed = pack(prompt, [[int(token) for token in target]])
    with torch.no_grad():
        return -float(log_probabilities(model, packed)[0] / packed.sampled_S[0])


def _is_valid(gap: Gap, fill: GeneratedFill, *, max_length: int) -> bool:
    session = FillSession(gap.song, gap.region, max_length=max_length)
    session.accept(fill.tokens)
    result = session.result()
    return result.dropped == 0 and any(result.notes.values())


def _distance(one: frozenset[tuple[int, int]], other: frozenset[tuple[int, int]]) -> float:
    return 1 - len(one & other) / len(one | other) if one | other else 0.0
