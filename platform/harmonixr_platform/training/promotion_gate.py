"""The promotion gate: decide whether a version is better than the champion and may replace it.

The gate uses the judgments of pairs of the two models, and measures both on the same gaps. It stores its decision as an
immutable record, and moves the alias by compare-and-swap.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field
from scipy.special import stdtrit

from harmonixr_model.infill.checkpoint import load_checkpoint
from harmonixr_platform.feedback.records.reader import Feedback, JudgedPair, read_feedback
from harmonixr_platform.registry import Promotion, PromotionCheck, Registry, RegistryError, Version, open_registry
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.training.composed_gaps import composed_gaps
from harmonixr_platform.training.config import JobSettings, parse_job, read_job_file
from harmonixr_platform.training.model_metrics import ModelMetrics, measure_model
from harmonixr_platform.training.registration import code_version

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings


class PromotionGate(JobSettings):
    """The requirements of the gate. Ratios and losses compare a version with the champion."""

    task: Literal["gate"] = "gate"
    pool: str = Field("", description="judgments of this pool only; empty: of all pools")
    use_simulated: bool = Field(False, description="count judgments made by programs; the record is labelled so")
    level: float = Field(0.95, gt=0.5, lt=1, description="level of the two-sided confidence interval of the win rate")
    min_win_rate: float = Field(0.5, ge=0.5, lt=1, description="the lower bound of the interval must be above this")
    min_judgments: int = Field(50, ge=2)
    max_likelihood_loss: float = Field(
        0.15, ge=0, description="how many nats a token the likelihood of the original notes may lose"
    )
    min_valid: float = Field(0.98, ge=0, le=1)
    max_latency_ratio: float = Field(1.5, gt=0)
    min_diversity_ratio: float = Field(0.7, ge=0)
    gaps: int = Field(24, ge=4, description="gaps to measure both models on, in pieces of the bundled composer")
    fills: int = Field(4, ge=2, description="fills a gap")
    max_context: int = Field(512, ge=128, description="tokens of a gap's context")
    seed: int = 2_000_000


@dataclass(frozen=True, slots=True)
class WinRate:
    """The share of comparisons that a version wins; a tie is half a win.

    `low` and `high` are the bounds of the wider of two intervals, clustered by rater and by source piece.
    """

    judgments: int
    raters: int
    pieces: int
    rate: float
    low: float
    high: float


def win_rate(judged: Sequence[JudgedPair], *, version: str, champion: str, level: float) -> WinRate:
    """Return the win rate of `version` in plain comparisons with `champion`."""
    points, raters, pieces = [], [], []
    for item in judged:
        versions = item.pair.first.model_version, item.pair.second.model_version
        if set(versions) != {version, champion} or item.comparison.role != "plain" or version == champion:
            continue
        score = {"first": 1.0, "second": 0.0, "tie": 0.5}.get(item.outcome)
        if score is None:
            continue
        points.append(score if versions[0] == version else 1 - score)
        raters.append(item.judgment.rater)
        pieces.append(item.pair.piece_id)
    rate = float(np.mean(points)) if points else math.nan
    error = max((cluster_error(points, groups, level=level) for groups in (raters, pieces)), default=math.inf)
    return WinRate(len(points), len(set(raters)), len(set(pieces)), rate, rate - error, rate + error)


def cluster_error(values: Sequence[float], clusters: Sequence[str], *, level: float) -> float:
    """Return half the width of the interval of the mean of clustered values; infinite for fewer than two clusters.

    The jackknife over clusters, with a t distribution of one degree of freedom less than clusters: MacKinnon, Nielsen
    and Webb (2023), "Fast and reliable jackknife and bootstrap methods for cluster-robust inference".
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        groups[cluster].append(value)
    if len(groups) < 2:
        return math.inf
    totals = np.array([sum(group) for group in groups.values()])
    sizes = np.array([len(group) for group in groups.values()])
    without = (totals.sum() - totals) / (sizes.sum() - sizes)
    count = len(groups)
    variance = (count - 1) / count * ((without - totals.sum() / sizes.sum()) ** 2).sum()
    return float(stdtrit(count - 1, 0.5 + level / 2) * math.sqrt(variance))


def gate_checks(gate: PromotionGate, won: WinRate, new: ModelMetrics, old: ModelMetrics) -> tuple[PromotionCheck, ...]:
    """Return all checks, the passed ones included, the most important first."""
    low = _finite(won.low)
    win_rate_text = (
        f"chosen over the champion {won.rate:.1%} of the time ({gate.level:.0%} CI clustered by rater and piece, lower "
        f"bound {won.low:.1%}); the lower bound must be above {gate.min_win_rate:.0%}"
    )
    diversity = new.diversity / old.diversity if old.diversity else 1.0
    return (
        _at_least("judgments", won.judgments, gate.min_judgments, "judgments against the champion"),
        PromotionCheck(
            name="win_rate",
            passed=low is not None and low > gate.min_win_rate,
            measured=low,
            wanted=gate.min_win_rate,
            sentence=win_rate_text,
        ),
        _at_most("likelihood", new.nats - old.nats, gate.max_likelihood_loss, "nats a token lost on original notes"),
        _at_least("validity", new.valid, gate.min_valid, "of the fills valid"),
        _at_most("latency", new.seconds / old.seconds, gate.max_latency_ratio, "times the champion's time a fill"),
        _at_least("diversity", diversity, gate.min_diversity_ratio, "of the champion's distance between fills"),
    )


def decide(
    name: str,
    reference: str,
    *,
    settings: Settings,
    gate: PromotionGate,
    alias: str = "champion",
    measure: Callable[[Version], ModelMetrics] | None = None,
) -> Promotion:
    """Decide whether a version gets an alias, store the decision, and move the alias.

    Args:
        name: the model, `infill`.
        reference: the version or alias to promote.
        settings: the addresses of the stores.
        gate: the requirements.
        alias: the alias to move.
        measure: measures a version; by default on the gate's gaps.

    Raises:
        RegistryError: there is no such version or no champion, or the alias moved meanwhile.

    """
    registry = open_registry(settings)
    version, champion = registry.resolve(name, reference), registry.resolve(name, alias)
    if name != "infill":
        raise RegistryError(f"the promotion gate decides on infill models only; promote a {name} model without --gate")
    if version.version == champion.version:
        raise RegistryError(f"{name} {version.version} is {alias} already")
    feedback = read_feedback(open_object_store(settings))
    judged = _judgments(gate, feedback)
    won = win_rate(judged, version=version.version, champion=champion.version, level=gate.level)
    measure = measure or (lambda each: _measure(registry, each, gate))
    new, old = measure(version), measure(champion)
    checks = gate_checks(gate, won, new, old)
    promotion = Promotion(
        name=name,
        alias=alias,
        version=version.version,
        champion=champion.version,
        promoted=all(check.passed for check in checks),
        checks=checks,
        evidence={
            "win_rate": {key: _finite(value) for key, value in asdict(won).items()},
            "version": asdict(new),
            "champion": asdict(old),
        },
        data=feedback.data_hash,
        gate=gate.model_dump(mode="json"),
        simulated=any(item.judgment.simulated for item in judged),
        code=code_version(),
        decided=datetime.now(UTC),
    )
    registry.decide(promotion)
    return promotion


def read_gate(path: Path, overrides: Sequence[str] = ()) -> PromotionGate:
    """Read a gate's YAML; raises JobError."""
    return parse_job(PromotionGate, read_job_file(path, overrides), source=str(path))


def _judgments(gate: PromotionGate, feedback: Feedback) -> list[JudgedPair]:
    return [
        item
        for item in feedback.judged
        if (gate.use_simulated or not item.judgment.simulated) and gate.pool in ("", item.comparison.pool)
    ]


def _measure(registry: Registry, version: Version, gate: PromotionGate) -> ModelMetrics:
    model, _ = load_checkpoint(registry.fetch(version))
    gaps = composed_gaps(gate.gaps, seed=gate.seed, max_context=gate.max_context, max_length=model.config.max_length)
    return measure_model(model, list(gaps), fills=gate.fills, seed=gate.seed)


def _at_most(name: str, measured: float, wanted: float, quantity: str) -> PromotionCheck:
    sentence = f"{measured:.4g} {quantity}; at most {wanted:g} is allowed"
    return PromotionCheck(name=name, passed=measured <= wanted, measured=measured, wanted=wanted, sentence=sentence)


def _at_least(name: str, measured: float, wanted: float, quantity: str) -> PromotionCheck:
    sentence = f"{measured:.4g} {quantity}; at least {wanted:g} is required"
    return PromotionCheck(name=name, passed=measured >= wanted, measured=measured, wanted=wanted, sentence=sentence)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
