"""Two models of votes with ties, with their derivatives for each row of the design.

η is the log odds of first over second and t the tie parameter:

- Davidson, "On extending the Bradley–Terry model to accommodate ties in paired comparison experiments", JASA 65 (1970):
  weights e^(η/2), e^(−η/2) and ν = e^t. A multinomial logit, so the likelihood is concave in (η, t).
- Rao and Kupper, "Ties in paired-comparison experiments: a generalization of the Bradley–Terry model", JASA 62 (1967):
  first wins with σ(η − t), second with σ(−η − t), t ≥ 0 their log threshold. An ordered logit, concave too.
"""

# D weightings (each a refit), N rows; the tie parameter is [D, 1]

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harmonixr_platform.feedback.statistics.votes import FIRST, SECOND, TIE, Floats, Ints


@dataclass(frozen=True, slots=True)
class Terms:
    """For each row its log-likelihood, score in (η, t), and expected information."""

    log_likelihood: Floats
    score_eta: Floats
    score_tie: Floats
    info_eta: Floats
    info_cross: Floats
    info_tie: Floats


class Davidson:
    """A tie is more likely the closer the two strengths are, by their geometric mean.

    `no_ties` is the tie parameter at which ties do not occur, `start` that of the fit, `lowest` its lower bound.
    """

    name = "davidson"
    no_ties, start, lowest = -30.0, 0.0, -np.inf

    def terms(self, eta: Floats, tie: Floats, outcome_N: Ints) -> Terms:
        """Return the terms of each row under each weighting."""
        first, second, equal, log_total = _davidson(eta, tie)
        seen = np.where(outcome_N == FIRST, eta / 2, np.where(outcome_N == SECOND, -eta / 2, tie))
        lead = first - second
        sign = (outcome_N == FIRST) / 2 - (outcome_N == SECOND) / 2
        return Terms(
            log_likelihood=seen - log_total,
            score_eta=sign - lead / 2,
            score_tie=(outcome_N == TIE) - equal,
            info_eta=(first + second - lead**2) / 4,
            info_cross=-lead * equal / 2,
            info_tie=equal * (1 - equal),
        )

    def chances(self, eta: Floats, tie: float) -> Floats:
        """Return the probabilities of first, second and tie, [3, ...]."""
        return np.stack(_davidson(eta, np.float64(tie))[:3])


class RaoKupper:
    """A tie is a difference that is too small to notice."""

    name = "rao_kupper"
    no_ties, start, lowest = 1e-9, 0.5, 1e-9

    def terms(self, eta: Floats, tie: Floats, outcome_N: Ints) -> Terms:
        """Return the terms of each row under each weighting."""
        first, second, equal = self._chances(eta, tie)
        slope_first, slope_second = first * (1 - first), second * (1 - second)
        to_equal, from_both = slope_second - slope_first, slope_first + slope_second
        seen = np.where(outcome_N == FIRST, first, np.where(outcome_N == SECOND, second, equal))
        by_eta = np.where(outcome_N == FIRST, slope_first, np.where(outcome_N == SECOND, -slope_second, to_equal))
        by_tie = np.where(outcome_N == FIRST, -slope_first, np.where(outcome_N == SECOND, -slope_second, from_both))
        pull_first, pull_second = slope_first * (1 - first), slope_second * (1 - second)
        return Terms(
            log_likelihood=np.log(seen),
            score_eta=by_eta / seen,
            score_tie=by_tie / seen,
            info_eta=pull_first + pull_second + to_equal**2 / equal,
            info_cross=-pull_first + pull_second + to_equal * from_both / equal,
            info_tie=pull_first + pull_second + from_both**2 / equal,
        )

    def chances(self, eta: Floats, tie: float) -> Floats:
        """Return the probabilities of first, second and tie, [3, ...]."""
        return np.stack(self._chances(eta, np.float64(tie)))

    def _chances(self, eta: Floats, tie: Floats | np.float64) -> tuple[Floats, Floats, Floats]:
        first, second = 1 / (1 + np.exp(tie - eta)), 1 / (1 + np.exp(tie + eta))
        # σ(η + t) − σ(η − t) without the cancellation.
        return first, second, np.sinh(tie) / (np.cosh(eta) + np.cosh(tie))


TieModel = Davidson | RaoKupper


def _davidson(eta: Floats, tie: Floats | np.float64) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the probabilities of first, second and tie, and the log of the normalizing constant."""
    largest = np.maximum(np.abs(eta) / 2, tie)
    first, second, equal = np.exp(eta / 2 - largest), np.exp(-eta / 2 - largest), np.exp(tie - largest)
    total = first + second + equal
    return first / total, second / total, equal / total, largest + np.log(total)
