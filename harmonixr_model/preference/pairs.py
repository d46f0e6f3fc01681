"""Comparisons as training data of the reward model: batches of whole contexts, splits by piece."""

# C comparisons, S sequences (fills), F pooled features

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RatedPair:
    """One judged comparison: the feature rows of its two fills, the outcome for the first, and its groups.

    `versions` are the versions of the models that generated the two fills.
    """

    first: int
    second: int
    outcome: int
    context_id: str
    piece_id: str
    rater: str = ""
    versions: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Comparisons of some contexts; `first_C` and `second_C` are rows of the feature table."""

    first_C: Tensor
    second_C: Tensor
    outcome_C: Tensor
    context_C: Tensor
    index_C: Tensor


def split_by_piece(pairs: Sequence[RatedPair], *, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices of training and held-out comparisons; no piece is in both.

    Pieces are ordered by a hash of (seed, piece) and held out until the share is reached, so a piece keeps its side
    when pieces are added. Of four pieces or more at least two are held out: one piece gives no interval.
    """
    pieces = sorted({pair.piece_id for pair in pairs}, key=lambda piece: _hash(seed, piece))
    least = 2 if len(pieces) >= 4 else len(pieces) // 2
    chosen = set(pieces[: max(least, round(len(pieces) * held_out))])
    train = [i for i, pair in enumerate(pairs) if pair.piece_id not in chosen]
    valid = [i for i, pair in enumerate(pairs) if pair.piece_id in chosen]
    return train, valid


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of comparisons: `train` for fitting, `valid` for early stopping, the others for reports.

    `test` shares no piece with the rest. `raters` are from held-out raters and `version` from a held-out model, on the
    pieces of `train`: they measure how the model generalises to other people and to other models.
    """

    train: list[int]
    valid: list[int]
    test: list[int]
    raters: list[int]
    version: list[int]


def split_comparisons(
    pairs: Sequence[RatedPair], *, held_out: float, seed: int, held_out_raters: float = 0.0, held_out_version: str = ""
) -> Split:
    """Return the split of comparisons: by piece first, then raters and a model version out of what is left.

    `held_out` is the share of pieces for `test`, and of the rest for `valid`.
    """
    rest, test = split_by_piece(pairs, held_out=held_out, seed=seed)
    raters = sorted({pairs[i].rater for i in rest}, key=lambda rater: _hash(seed, rater))
    left_out = set(raters[: round(len(raters) * held_out_raters)])
    version = [i for i in rest if held_out_version and held_out_version in pairs[i].versions]
    others = [i for i in rest if pairs[i].rater in left_out and i not in set(version)]
    fitted = sorted(set(rest) - set(version) - set(others))
    inner, stop = split_by_piece([pairs[i] for i in fitted], held_out=held_out, seed=seed + 1)
    return Split([fitted[i] for i in inner], [fitted[i] for i in stop], test, others, version)


def context_batches(
    pairs: Sequence[RatedPair],
    indices: Sequence[int],
    *,
    contexts: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[PairBatch]:
    """Yield an epoch's batches of `contexts` whole contexts each; every rank yields equally many.

    The order depends on (seed, epoch) alone. The ranks share it and wrap around at its end.
    """
    groups: dict[str, list[int]] = {}
    for i in indices:
        groups.setdefault(pairs[i].context_id, []).append(i)
    names = sorted(groups)
    order = np.random.default_rng((seed, epoch)).permutation(len(names))
    steps = max(1, -(-len(names) // (contexts * world)))
    for step in range(steps):
        start = (step * world + rank) * contexts
        chosen = [names[order[(start + k) % len(names)]] for k in range(min(contexts, len(names)))]
        yield _batch(pairs, [groups[name] for name in chosen])


def _batch(pairs: Sequence[RatedPair], groups: list[list[int]]) -> PairBatch:
    rows = [(i, context) for context, group in enumerate(groups) for i in group]
    return PairBatch(
        first_C=torch.tensor([pairs[i].first for i, _ in rows]),
        second_C=torch.tensor([pairs[i].second for i, _ in rows]),
        outcome_C=torch.tensor([pairs[i].outcome for i, _ in rows]),
        context_C=torch.tensor([context for _, context in rows]),
        index_C=torch.tensor([i for i, _ in rows]),
    )


def _hash(seed: int, piece: str) -> str:
    return hashlib.sha256(f"{seed}:{piece}".encode()).hexdigest()
