"""Fit a trained model's pointer gate: how often a remembered passage's guess comes true, given all that is known then.

A few dozen numbers from a few hundred gaps of the training split; no weight of the model changes. Knows nothing of
decoding.
"""

# G guesses, N drawn tokens, V vocabulary, F features

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.evaluation.likelihood import answer_logits, walk
from harmonixr_model.evaluation.protocol import evaluation_items
from harmonixr_model.infill.copy_gate import FEATURES, CopyGate, features
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.copy_pointer import KINDS

GAPS = 300
# Pulls the gate towards the model's own chance where there is little to learn from.
_PENALTY = 1e-4
_LEAST_GUESSES = 200


def fit_copy_gate(
    model: InfillTransformer,
    corpus: Corpus,
    *,
    gaps: int = GAPS,
    split: str = "train",
    seed: int = 1,
    progress: Callable[[int, int], None] = lambda done, gaps: None,
) -> CopyGate | None:
    """Return the gate that makes the true answers of `gaps` gaps likeliest; None where passages say too little.

    Deterministic. `progress` is told (gaps done, gaps in all). Raises CorpusError where the split has no gaps.
    """
    found: list[Tensor] = []
    kinds: list[int] = []
    came_true: list[bool] = []
    for done, item in enumerate(evaluation_items(corpus, split=split, count=gaps, seed=seed), 1):
        logs_NV = answer_logits(model, item).log_softmax(-1).cpu()
        drawn = list(walk(item))
        places = [place for place, (_, guess) in enumerate(drawn) if guess is not None]
        guesses = [guess for _, guess in drawn if guess is not None]
        if guesses:
            own_G = logs_NV[places, [guess.token for guess in guesses]]
            found.append(torch.from_numpy(features(guesses, own_G.double().numpy())))
            kinds += [guess.kind for guess in guesses]
            came_true += [token == guess.token for token, guess in drawn if guess is not None]
        progress(done, gaps)
    if len(kinds) < _LEAST_GUESSES:
        return None
    return CopyGate(_regress(torch.cat(found), torch.tensor(kinds), torch.tensor(came_true).double()))


def _regress(features_GF: Tensor, kind_G: Tensor, came_true_G: Tensor) -> Tensor:
    """Return the weights [kinds, F] of a logistic regression for each kind, by L-BFGS."""
    own = torch.zeros(len(KINDS), len(FEATURES), dtype=torch.float64)
    own[:, FEATURES.index("model")] = 1.0
    weight_KF = own.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([weight_KF], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        log_odds_G = (features_GF * weight_KF[kind_G]).sum(-1)
        nats = torch.nn.functional.binary_cross_entropy_with_logits(log_odds_G, came_true_G)
        penalised = nats + _PENALTY * (weight_KF - own).square().sum()
        penalised.backward()  # type: ignore[no-untyped-call]
        return penalised

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weight_KF.detach()
