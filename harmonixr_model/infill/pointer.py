"""How far a model lets remembered passages speak: the gate between what it thinks and what a passage says next.

The gate is a logistic regression (one for each kind of token) on the model's own log odds of the guess and on how the
passage has told so far. Its chance replaces the model's for that one token and the others share the rest, so bits stay
honest: a pointer mixture (See et al. 2017), calibrated after training as a cache is (Grave et al. 2017).
Knows nothing of songs; `tokens.pointer` makes the guesses, `evaluation.pointer` fits the gate.
"""

# R rows, V vocabulary, G rows with a guess, F features

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harmonixr_model.tokens.pointer import EVIDENCE, KINDS, Guess

# What the model thinks of the guess, and that times the likeness of the surroundings, stand before the evidence.
FEATURES = ("model", "model x similarity", *EVIDENCE)
_SIMILARITY = EVIDENCE.index("similarity")
# A chance nearer to 0 or 1 than this says no more.
_LOG_LEAST, _LOG_MOST = -15.0, -1e-4


class PointerGate:
    """Weights [kinds, features] of the chance that a guess comes true."""

    def __init__(self, weight_KF: Tensor) -> None:
        if weight_KF.shape != (len(KINDS), len(FEATURES)):
            raise ValueError(f"a gate has {len(KINDS)} x {len(FEATURES)} weights, not {tuple(weight_KF.shape)}")
        self.weight_KF = weight_KF.detach().double().cpu()

    def log_odds(self, guesses: Sequence[Guess], log_probability_G: Tensor) -> Tensor:
        """Return the log odds [G] that the guesses come true; the model gives them `log_probability_G`."""
        kinds = torch.tensor([guess.kind for guess in guesses])
        return (features(guesses, log_probability_G) * self.weight_KF[kinds]).sum(-1)

    @torch.inference_mode()
    def mix(self, logits_RV: Tensor, guesses: Sequence[Guess | None], *, recall: Sequence[float]) -> Tensor:
        """Return the logits with each row's guess given its chance, in place; rows without a guess stay as they are.

        `recall` goes from the model's own chance (0) to the gate's (1), row by row.
        """
        rows = [row for row, guess in enumerate(guesses) if guess is not None and recall[row] > 0]
        if not rows:
            return logits_RV
        made = [guess for row in rows if (guess := guesses[row]) is not None]
        at_G = torch.tensor(rows, device=logits_RV.device)
        token_G = torch.tensor([guess.token for guess in made], device=logits_RV.device)
        logits_GV = logits_RV[at_G].float()
        whole_G = logits_GV.logsumexp(-1)
        own_G = (logits_GV.gather(-1, token_G[:, None])[:, 0] - whole_G).double().clamp(_LOG_LEAST, _LOG_MOST)
        gate_G = self.log_odds(made, own_G.cpu()).sigmoid().to(own_G.device)
        share_G = torch.tensor([recall[row] for row in rows], dtype=torch.float64, device=own_G.device)
        chance_G = (own_G.exp() + share_G * (gate_G - own_G.exp())).clamp(1e-7, 1 - 1e-7)
        # The others keep their logits and together weigh 1 - chance.
        others_G = whole_G.double() + torch.log1p(-own_G.exp())
        logits_RV[at_G, token_G] = (others_G + chance_G.logit()).to(logits_RV.dtype)
        return logits_RV


def features(guesses: Sequence[Guess], log_probability_G: Tensor) -> Tensor:
    """Return [G, F], float64, as FEATURES names them."""
    own_G = log_probability_G.double().clamp(_LOG_LEAST, _LOG_MOST)
    odds_G = own_G - torch.log1p(-own_G.exp())
    evidence_GE = torch.tensor([guess.evidence for guess in guesses], dtype=torch.float64)
    return torch.cat([odds_G[:, None], (odds_G * evidence_GE[:, _SIMILARITY])[:, None], evidence_GE], dim=1)
