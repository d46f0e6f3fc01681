"""Intervals of what a fit says, by four methods; `docs/statistics.md` shows how often each covers the truth.

Votes of one rater are not independent: a taste or a habit moves all of them together. Three methods take the rater as
the unit; the i.i.d. bootstrap, which does not, stands beside them as the usual practice. Knows no models by name.

- `jackknife`: each rater left out in one Newton step: the "CR3" of Bell and McCaffrey (2002), in the jackknife form of
  MacKinnon, Nielsen and Webb, "Fast and reliable jackknife and bootstrap methods for cluster-robust inference", J.
  Applied Econometrics 38 (2023). t with the effective number of raters less one as degrees of freedom: Kish's
  1 / Σ share², by each rater's share of the information, so that a few raters with most of the votes count as few.
- `sandwich`: Liang and Zeger's, with the G / (G − 1) correction ("CR1") and t with (raters − 1) degrees of freedom.
- `rater_bootstrap`: raters drawn whole with replacement, percentiles.
- `iid_bootstrap`: votes drawn one by one with replacement, percentiles.
"""

# K quantities asked of P parameters; R = P + 1 with the tie parameter; G raters, D draws

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from harmonixr_platform.feedback.statistics.fit import RIDGE, Curvature, Fit, curvature, fit
from harmonixr_platform.feedback.statistics.votes import Design, Floats

Method = Literal["jackknife", "sandwich", "rater_bootstrap", "iid_bootstrap"]
METHODS: tuple[Method, ...] = ("jackknife", "sandwich", "rater_bootstrap", "iid_bootstrap")
# The one whose measured coverage is nearest to what it claims (benchmarks/coverage.py).
BEST: Method = "jackknife"
DRAWS = 500


@dataclass(frozen=True, slots=True)
class Intervals:
    """Low and high end of each quantity; None where one rater alone voted and a method needs several."""

    low_K: Floats
    high_K: Floats


def intervals(
    design: Design,
    found: Fit,
    asked_KP: Floats,
    *,
    method: Method = BEST,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
    ridge: float = RIDGE,
) -> Intervals | None:
    """Return intervals of linear functions of the parameters at a Davidson fit; None when they cannot be had."""
    raters = len(design.raters)
    if raters < 2 and method != "iid_bootstrap":
        return None
    if method in ("rater_bootstrap", "iid_bootstrap"):
        draw = _draw_raters if method == "rater_bootstrap" else _draw_votes
        refits = fit(design, weight_DN=draw(design, draws, np.random.default_rng(seed)), ridge=ridge)
        tail = (1 - level) / 2
        low, high = np.quantile(refits.value_DP @ asked_KP.T, [tail, 1 - tail], axis=0)
        return Intervals(low, high)
    at = curvature(design, found, ridge=ridge)
    spread_RR = _jackknife(at) if method == "jackknife" else _sandwich(at)
    asked_KR = np.pad(asked_KP, ((0, 0), (0, 1)))
    error_K = np.sqrt(np.maximum(np.einsum("kr,rs,ks->k", asked_KR, spread_RR, asked_KR), 0.0))
    degrees_K = _effective_raters(at, asked_KR) - 1 if method == "jackknife" else np.full(len(asked_KR), raters - 1.0)
    half_K = error_K * stdtrit(np.maximum(1.0, degrees_K), (1 + level) / 2)
    middle_K = asked_KP @ found.value_DP[0]
    return Intervals(middle_K - half_K, middle_K + half_K)


def _draw_raters(design: Design, draws: int, rng: np.random.Generator) -> Floats:
    raters = len(design.raters)
    times_DG = rng.multinomial(raters, np.full(raters, 1 / raters), size=draws)
    weights: Floats = times_DG[:, design.rater_N] * design.count_N
    return weights


def _draw_votes(design: Design, draws: int, rng: np.random.Generator) -> Floats:
    total = int(design.count_N.sum())
    return rng.multinomial(total, design.count_N / total, size=draws).astype(float)


def _effective_raters(at: Curvature, asked_KR: Floats) -> Floats:
    """Return for each quantity how many raters of equal weight would tell as much about it."""
    bread_RR = np.linalg.inv(at.information_GRR.sum(axis=0) + at.pull_RR)
    reach_KR = asked_KR @ bread_RR
    share_KG = np.einsum("kr,grs,ks->kg", reach_KR, at.information_GRR, reach_KR)
    share_KG /= share_KG.sum(axis=1, keepdims=True)
    effective: Floats = 1 / (share_KG**2).sum(axis=1)
    return effective


def _sandwich(at: Curvature) -> Floats:
    raters = len(at.score_GR)
    bread_RR = np.linalg.inv(at.information_GRR.sum(axis=0) + at.pull_RR)
    steps_GR = at.score_GR @ bread_RR
    spread: Floats = raters / (raters - 1) * steps_GR.T @ steps_GR
    return spread


def _jackknife(at: Curvature) -> Floats:
    raters = len(at.score_GR)
    without_GRR = at.information_GRR.sum(axis=0) - at.information_GRR + at.pull_RR
    moved_GR = np.linalg.solve(without_GRR, at.score_GR[:, :, None])[:, :, 0]
    moved_GR = moved_GR - moved_GR.mean(axis=0)
    spread: Floats = (raters - 1) / raters * moved_GR.T @ moved_GR
    return spread
