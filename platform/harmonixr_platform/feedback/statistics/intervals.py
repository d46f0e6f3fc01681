"""Confidence intervals of a fit by four methods; `docs/statistics.md` shows the coverage of each.

Votes of one rater are not independent, since taste and habit affect all of them. Three methods use the rater as the
unit. The i.i.d. bootstrap uses the vote and is included since it is common practice.

- `jackknife`: each rater left out in one Newton step: the "CR3" of Bell and McCaffrey (2002), in the jackknife form of
  MacKinnon, Nielsen and Webb, "Fast and reliable jackknife and bootstrap methods for cluster-robust inference", J.
  Applied Econometrics 38 (2023). t with the effective number of raters less one as degrees of freedom: Kish's
  1 / Σ share², by each rater's share of the information, so that a few raters with most of the votes count as few.
- `sandwich`: Liang and Zeger's, with the G / (G − 1) correction ("CR1") and t with (raters − 1) degrees of freedom.
- `rater_bootstrap`: raters resampled with all their votes, percentiles.
- `iid_bootstrap`: single votes resampled, percentiles.
"""

# K contrasts (linear functions) of P parameters; R = P + 1 with the tie parameter; G raters, D resamples

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from harmonixr_platform.feedback.statistics.fit import RIDGE, Curvature, Fit, curvature, fit
from harmonixr_platform.feedback.statistics.votes import Design, Floats

Method = Literal["jackknife", "sandwich", "rater_bootstrap", "iid_bootstrap"]
METHODS: tuple[Method, ...] = ("jackknife", "sandwich", "rater_bootstrap", "iid_bootstrap")
# The method whose measured coverage is closest to the nominal level (benchmarks/coverage.py).
BEST: Method = "jackknife"
RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Intervals:
    """Lower and upper bound of each contrast."""

    low_K: Floats
    high_K: Floats


def intervals(
    design: Design,
    found: Fit,
    contrast_KP: Floats,
    *,
    method: Method = BEST,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    ridge: float = RIDGE,
) -> Intervals | None:
    """Return intervals of contrasts at a Davidson fit; None if the method needs more than one rater."""
    raters = len(design.raters)
    if raters < 2 and method != "iid_bootstrap":
        return None
    if method in ("rater_bootstrap", "iid_bootstrap"):
        resample = _resample_raters if method == "rater_bootstrap" else _resample_votes
        refits = fit(design, weight_DN=resample(design, resamples, np.random.default_rng(seed)), ridge=ridge)
        tail = (1 - level) / 2
        low, high = np.quantile(refits.value_DP @ contrast_KP.T, [tail, 1 - tail], axis=0)
        return Intervals(low, high)
    fitted = curvature(design, found, ridge=ridge)
    spread_RR = _jackknife(fitted) if method == "jackknife" else _sandwich(fitted)
    contrast_KR = np.pad(contrast_KP, ((0, 0), (0, 1)))
    error_K = np.sqrt(np.maximum(np.einsum("kr,rs,ks->k", contrast_KR, spread_RR, contrast_KR), 0.0))
    degrees_K = (
        _effective_raters(fitted, contrast_KR) - 1 if method == "jackknife" else np.full(len(contrast_KR), raters - 1.0)
    )
    half_K = error_K * stdtrit(np.maximum(1.0, degrees_K), (1 + level) / 2)
    middle_K = contrast_KP @ found.value_DP[0]
    return Intervals(middle_K - half_K, middle_K + half_K)


def _resample_raters(design: Design, resamples: int, rng: np.random.Generator) -> Floats:
    raters = len(design.raters)
    times_DG = rng.multinomial(raters, np.full(raters, 1 / raters), size=resamples)
    weights: Floats = times_DG[:, design.rater_N] * design.count_N
    return weights


def _resample_votes(design: Design, resamples: int, rng: np.random.Generator) -> Floats:
    total = int(design.count_N.sum())
    return rng.multinomial(total, design.count_N / total, size=resamples).astype(float)


def _effective_raters(fitted: Curvature, contrast_KR: Floats) -> Floats:
    """Return for each contrast how many raters of equal weight have the same information about it."""
    bread_RR = np.linalg.inv(fitted.information_GRR.sum(axis=0) + fitted.penalty_RR)
    reach_KR = contrast_KR @ bread_RR
    share_KG = np.einsum("kr,grs,ks->kg", reach_KR, fitted.information_GRR, reach_KR)
    share_KG /= share_KG.sum(axis=1, keepdims=True)
    effective: Floats = 1 / (share_KG**2).sum(axis=1)
    return effective


def _sandwich(fitted: Curvature) -> Floats:
    raters = len(fitted.score_GR)
    bread_RR = np.linalg.inv(fitted.information_GRR.sum(axis=0) + fitted.penalty_RR)
    steps_GR = fitted.score_GR @ bread_RR
    spread: Floats = raters / (raters - 1) * steps_GR.T @ steps_GR
    return spread


def _jackknife(fitted: Curvature) -> Floats:
    raters = len(fitted.score_GR)
    without_GRR = fitted.information_GRR.sum(axis=0) - fitted.information_GRR + fitted.penalty_RR
    moved_GR = np.linalg.solve(without_GRR, fitted.score_GR[:, :, None])[:, :, 0]
    moved_GR = moved_GR - moved_GR.mean(axis=0)
    spread: Floats = (raters - 1) / raters * moved_GR.T @ moved_GR
    return spread
