"""Fit the copy gate of a trained model: the probability that a guess from a similar passage is right.

A few dozen numbers are fitted to a few hundred gaps of the training split. The model's weights do not change.
"""

# G guesses, N predicted tokens, V vocabulary, F features, K kinds of guesses

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.evaluation.likelihood import target_logits, targets_and_guesses
from harmonixr_model.evaluation.protocol import evaluation_items
from harmonixr_model.infill.copy_gate import FEATURES, CopyGate, features
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.copy_pointer import KINDS

GAPS = 300
# Regularizes the gate towards the model's own probability.
_PENALTY = 1e-4
_MIN_GUESSES = 200


def fit_copy_gate(
    model: InfillTransformer,
    corpus: Corpus,
    *,
    gaps: int = GAPS,
    split: str = "train",
    seed: int = 1,
    progress: Callable[[int, int], None] = lambda done, gaps: None,
) -> CopyGate | None:
    """Return the gate with the highest likelihood for the originals of `gaps` gaps; None if there are too few guesses.

    Deterministic. `progress` receives (gaps done, all gaps). Raises CorpusError where the split has no gaps.
    """
    found: list[Tensor] = []
    kinds: list[int] = []
    is_right: list[bool] = []
    for done, item in enumerate(evaluation_items(corpus, split=split, count=gaps, seed=seed), 1):
        logs_NV = target_logits(model, item).log_softmax(-1).cpu()
        guessed = [(n, token, guess) for n, (token, guess) in enumerate(targets_and_guesses(item)) if guess is not None]
        if guessed:
            positions, targets, guesses = zip(*guessed, strict=True)
            own_G = logs_NV[list(positions), [guess.token for guess in guesses]]
            found.append(torch.from_numpy(features(guesses, own_G.double().numpy())))
            kinds += [guess.kind for guess in guesses]
            is_right += [token == guess.token for token, guess in zip(targets, guesses, strict=True)]
        progress(done, gaps)
    if len(kinds) < _MIN_GUESSES:
        return None
    return CopyGate(_regress(torch.cat(found), torch.tensor(kinds), torch.tensor(is_right).double()))


def _regress(features_GF: Tensor, kind_G: Tensor, is_right_G: Tensor) -> Tensor:
    """Return the weights [K, F] of a logistic regression for each kind, by L-BFGS."""
    own_KF = torch.zeros(len(KINDS), len(FEATURES), dtype=torch.float64)
    own_KF[:, FEATURES.index("model")] = 1.0
    weight_KF = own_KF.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([weight_KF], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        log_odds_G = (features_GF * weight_KF[kind_G]).sum(-1)
        nats = torch.nn.functional.binary_cross_entropy_with_logits(log_odds_G, is_right_G)
        penalised = nats + _PENALTY * (weight_KF - own_KF).square().sum()
        penalised.backward()  # type: ignore[no-untyped-call]
        return penalised

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weight_KF.detach()
