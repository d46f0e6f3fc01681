"""How far a model lets remembered passages speak: the gate between what it thinks and what a passage says next.

The gate is a logistic regression (one for each kind of token) on the model's own log odds of the guess and on how the
passage has told so far. Its chance replaces the model's for that one token and the others share the rest, so bits stay
honest: a pointer mixture (See et al. 2017), calibrated after training as a cache is (Grave et al. 2017).
Knows nothing of songs; `tokens.pointer` makes the guesses, `evaluation.pointer` fits the gate.
"""

# R rows, V vocabulary, G rows with a guess, F features

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harmonixr_model.prompt.copy_pointer import EVIDENCE, KINDS, Guess

# What the model thinks of the guess, and that times the likeness of the surroundings, stand before the evidence.
FEATURES = ("model", "model x similarity", *EVIDENCE)
_SIMILARITY = EVIDENCE.index("similarity")
# A chance nearer to 0 or 1 than this says no more.
_LOG_LEAST, _LOG_MOST = -15.0, -1e-4


class CopyGate:
    """Weights [kinds, features] of the chance that a guess comes true."""

    def __init__(self, weight_KF: Tensor) -> None:
        if weight_KF.shape != (len(KINDS), len(FEATURES)):
            raise ValueError(f"a gate has {len(KINDS)} x {len(FEATURES)} weights, not {tuple(weight_KF.shape)}")
        self.weight_KF = weight_KF.detach().double().cpu()
        self._weight_KF = self.weight_KF.numpy()

    def log_odds(self, guesses: Sequence[Guess], log_probability_G: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the log odds [G] that the guesses come true; the model gives them `log_probability_G`."""
        weight_GF = self._weight_KF[[guess.kind for guess in guesses]]
        found: npt.NDArray[np.float64] = (features(guesses, log_probability_G) * weight_GF).sum(axis=-1)
        return found

    @torch.inference_mode()
    def mix(self, logits_RV: Tensor, guesses: Sequence[Guess | None], *, copy_strength: Sequence[float]) -> Tensor:
        """Return the logits with each row's guess given its chance, in place; rows without a guess stay as they are.

        `copy_strength` goes from the model's own chance (0) to the gate's (1), row by row.
        """
        rows = [row for row, guess in enumerate(guesses) if guess is not None and copy_strength[row] > 0]
        if not rows:
            return logits_RV
        made = [guess for row in rows if (guess := guesses[row]) is not None]
        at_G = np.arange(len(rows)), np.array([guess.token for guess in made])
        chosen_GV = logits_RV if len(rows) == len(guesses) else logits_RV[rows]
        # So few numbers that numpy is done before PyTorch has dispatched.
        logits_GV = chosen_GV.float().cpu().numpy()
        highest_G1 = logits_GV.max(axis=-1, keepdims=True)
        whole_G = np.log(np.exp(logits_GV - highest_G1).sum(axis=-1)) + highest_G1[:, 0]
        own_G = np.clip((logits_GV[at_G] - whole_G).astype(np.float64), _LOG_LEAST, _LOG_MOST)
        share_G = np.array([copy_strength[row] for row in rows])
        gate_G = 1 / (1 + np.exp(-self.log_odds(made, own_G)))
        chance_G = np.clip(np.exp(own_G) + share_G * (gate_G - np.exp(own_G)), 1e-7, 1 - 1e-7)
        # The others keep their logits and together weigh 1 - chance.
        new_G = whole_G + np.log1p(-np.exp(own_G)) + np.log(chance_G) - np.log1p(-chance_G)
        logits_RV[rows, at_G[1].tolist()] = torch.from_numpy(new_G).to(logits_RV)
        return logits_RV


def features(guesses: Sequence[Guess], log_probability_G: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return [G, F], float64, as FEATURES names them."""
    own_G = np.clip(log_probability_G, _LOG_LEAST, _LOG_MOST)
    odds_G1 = (own_G - np.log1p(-np.exp(own_G)))[:, None]
    evidence_GE = np.array([guess.evidence for guess in guesses])
    return np.concatenate([odds_G1, odds_G1 * evidence_GE[:, [_SIMILARITY]], evidence_GE], axis=1)
