"""Held-out quality of a reward model: accuracy, log-loss and calibration, with intervals over pieces."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harmonixr_model.preference.loss import LOSS, TIE, WIN, outcome_log_probability


@dataclass(frozen=True, slots=True)
class RewardMetrics:
    """The quality of a reward model on held-out comparisons.

    `accuracy` counts decided comparisons (no ties) whose winner has the higher mean reward; `interval` is its 95 %
    bootstrap over pieces; `log_loss` in nats, ties included; `calibration_error` is the expected calibration error of
    the winner's probability over ten bins.
    """

    comparisons: int
    decided: int
    accuracy: float
    interval: tuple[float, float]
    log_loss: float
    calibration_error: float


def evaluate_rewards(
    reward_a_CH: Tensor, reward_b_CH: Tensor, outcome_C: Tensor, *, log_tie: Tensor, piece_ids: list[str], seed: int = 0
) -> RewardMetrics:
    """Measure rewards against outcomes; without comparisons the numbers are NaN."""
    if not len(outcome_C):
        return RewardMetrics(0, 0, float("nan"), (float("nan"), float("nan")), float("nan"), float("nan"))
    mean_a_C1, mean_b_C1 = reward_a_CH.mean(-1, keepdim=True), reward_b_CH.mean(-1, keepdim=True)
    log_loss = -outcome_log_probability(mean_a_C1, mean_b_C1, outcome_C, log_tie).mean().item()
    margin_C = (mean_a_C1 - mean_b_C1).squeeze(-1)
    decided_C = outcome_C != TIE
    right_C = torch.where(outcome_C == WIN, margin_C > 0, margin_C < 0)
    right = right_C[decided_C].numpy().astype(float)
    pieces = [piece for piece, keep in zip(piece_ids, decided_C.tolist(), strict=True) if keep]
    probability = torch.sigmoid(torch.where(outcome_C == LOSS, -margin_C, margin_C))[decided_C].numpy()
    return RewardMetrics(
        comparisons=len(outcome_C),
        decided=len(right),
        accuracy=float(right.mean()) if len(right) else float("nan"),
        interval=cluster_interval(right, pieces, seed=seed),
        log_loss=log_loss,
        calibration_error=calibration_error(probability),
    )


def cluster_interval(values: np.ndarray, clusters: list[str], *, seed: int, draws: int = 1000) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean, resampling whole clusters; NaN from one cluster."""
    if len(set(clusters)) < 2:
        return float("nan"), float("nan")
    groups: dict[str, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        groups[cluster].append(float(value))
    totals = np.array([sum(group) for group in groups.values()])
    sizes = np.array([len(group) for group in groups.values()])
    pick = np.random.default_rng(seed).integers(len(totals), size=(draws, len(totals)))
    low, high = np.percentile(totals[pick].sum(1) / sizes[pick].sum(1), [2.5, 97.5])
    return float(low), float(high)


def calibration_error(winner_probability: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error (Naeini et al. 2015) of the preferred side; NaN without comparisons."""
    if len(winner_probability) == 0:
        return float("nan")
    return sum(
        row.comparisons / len(winner_probability) * abs(row.accuracy - row.confidence)
        for row in reliability(winner_probability, bins=bins)
    )


@dataclass(frozen=True, slots=True)
class Reliability:
    """One bin of a reliability plot: the mean confidence in the preferred side, and how often that side won."""

    confidence: float
    accuracy: float
    comparisons: int


def reliability(winner_probability: np.ndarray, *, bins: int = 10) -> list[Reliability]:
    """Return the bins that are not empty; confidence is at least one half."""
    confidence = np.maximum(winner_probability, 1 - winner_probability)
    correct = winner_probability > 0.5
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        Reliability(float(confidence[place == b].mean()), float(correct[place == b].mean()), int((place == b).sum()))
        for b in range(bins)
        if (place == b).any()
    ]
