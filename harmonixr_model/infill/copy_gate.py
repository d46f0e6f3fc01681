"""The copy gate: how likely a copy pointer's guess is, given the model's own odds and the pointer's evidence.

The gate is a logistic regression for each kind of token. Its probability replaces the model's for the guessed token;
the others share the rest: a pointer mixture (See et al. 2017), calibrated after training as a cache is (Grave et al.
2017). `prompt.copy_pointer` makes the guesses; `evaluation.fit_copy_gate` fits the gate.
"""

# R rows, V vocabulary, G rows with a guess, F features

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harmonixr_model.prompt.copy_pointer import EVIDENCE, KINDS, Guess

# The model's log odds of the guess, the same times the similarity of the contexts, and the pointer's evidence.
FEATURES = ("model", "model x similarity", *EVIDENCE)
_SIMILARITY = EVIDENCE.index("similarity")
# Bounds of a log probability: beyond them the odds carry no information.
_LOG_LEAST, _LOG_MOST = -15.0, -1e-4


class CopyGate:
    """Weights [kinds, features] of the probability that a guess is right."""

    def __init__(self, weight_KF: Tensor) -> None:
        if weight_KF.shape != (len(KINDS), len(FEATURES)):
            raise ValueError(f"a copy gate has {len(KINDS)} x {len(FEATURES)} weights, not {tuple(weight_KF.shape)}")
        self.weight_KF = weight_KF.detach().double().cpu()
        self._weight_KF = self.weight_KF.numpy()

    def log_odds(self, guesses: Sequence[Guess], log_probability_G: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the log odds [G] that the guesses are right; `log_probability_G` are the model's."""
        weight_GF = self._weight_KF[[guess.kind for guess in guesses]]
        log_odds_G: npt.NDArray[np.float64] = (features(guesses, log_probability_G) * weight_GF).sum(axis=-1)
        return log_odds_G

    @torch.inference_mode()
    def mix(self, logits_RV: Tensor, guesses: Sequence[Guess | None], *, copy_strength: Sequence[float]) -> Tensor:
        """Set the probability of each row's guess in the logits, in place; rows without a guess stay as they are.

        `copy_strength` interpolates for each row from the model's own probability (0) to the gate's (1).
        """
        rows = [row for row, guess in enumerate(guesses) if guess is not None and copy_strength[row] > 0]
        if not rows:
            return logits_RV
        present = [guess for row in rows if (guess := guesses[row]) is not None]
        index_G = np.arange(len(rows)), np.array([guess.token for guess in present])
        chosen_GV = logits_RV if len(rows) == len(guesses) else logits_RV[rows]
        # With so few numbers numpy is faster than PyTorch's dispatch.
        logits_GV = chosen_GV.float().cpu().numpy()
        highest_G1 = logits_GV.max(axis=-1, keepdims=True)
        log_total_G = np.log(np.exp(logits_GV - highest_G1).sum(axis=-1)) + highest_G1[:, 0]
        own_G = np.clip((logits_GV[index_G] - log_total_G).astype(np.float64), _LOG_LEAST, _LOG_MOST)
        share_G = np.array([copy_strength[row] for row in rows])
        gate_G = 1 / (1 + np.exp(-self.log_odds(present, own_G)))
        probability_G = np.clip(np.exp(own_G) + share_G * (gate_G - np.exp(own_G)), 1e-7, 1 - 1e-7)
        # The other tokens keep their logits and together have the rest of the probability.
        new_G = log_total_G + np.log1p(-np.exp(own_G)) + np.log(probability_G) - np.log1p(-probability_G)
        logits_RV[rows, index_G[1].tolist()] = torch.from_numpy(new_G).to(logits_RV)
        return logits_RV


def features(guesses: Sequence[Guess], log_probability_G: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the features [G, F], float64, in the order of FEATURES."""
    own_G = np.clip(log_probability_G, _LOG_LEAST, _LOG_MOST)
    odds_G1 = (own_G - np.log1p(-np.exp(own_G)))[:, None]
    evidence_GE = np.array([guess.evidence for guess in guesses])
    return np.concatenate([odds_G1, odds_G1 * evidence_GE[:, [_SIMILARITY]], evidence_GE], axis=1)
