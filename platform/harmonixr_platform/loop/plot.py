"""Draw the results of the loop as one SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_BASE, _DPO, _GREY = "#0072b2", "#d55e00", "#bbbbbb"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its interval."""

    label: str
    value: float
    low: float
    high: float


def draw(
    *,
    title: str,
    scatter: Sequence[tuple[float, float]],
    rho: float,
    bars: Sequence[Bar],
    reliability: Sequence[tuple[float, float, int]],
) -> str:
    """Return an SVG of three panels: reward against utility, utilities with their intervals, reliability."""
    from matplotlib.figure import Figure

    from harmonixr_model.pictures.figure import to_svg

    figure = Figure(figsize=(11, 4), layout="constrained")
    figure.suptitle(title)
    left, middle, right = figure.subplots(1, 3)
    left.set(title=f"Held-out pairs: Spearman {rho:.3f}", xlabel="difference in utility", ylabel="difference in reward")
    left.axhline(0, color=_GREY)
    left.axvline(0, color=_GREY)
    left.scatter([u for u, _ in scatter], [r for _, r in scatter], s=6, alpha=0.4, color=_BASE)
    middle.set(title="Utility on fresh gaps (95 % interval over gaps)", ylabel="utility")
    lowest, highest = min(bar.low for bar in bars), max(bar.high for bar in bars)
    middle.set_ylim(lowest - 0.25 * (highest - lowest or 1), highest + 0.15 * (highest - lowest or 1))
    colours = [_DPO if bar.label.startswith("DPO") else _BASE for bar in bars]
    ends = [[bar.value - bar.low for bar in bars], [bar.high - bar.value for bar in bars]]
    drawn = middle.bar([bar.label for bar in bars], [bar.value for bar in bars], yerr=ends, color=colours, alpha=0.75)
    middle.bar_label(drawn, fmt="%.3f", padding=2)
    right.set(
        title="Reliability of the reward model", xlabel="predicted", ylabel="observed", xlim=(0.5, 1), ylim=(0, 1)
    )
    right.plot([0.5, 1], [0.5, 1], color=_GREY)
    most = max((count for *_, count in reliability), default=1)
    sizes = [20 + 120 * count / most for *_, count in reliability]
    right.scatter([p for p, *_ in reliability], [share for _, share, _ in reliability], s=sizes, color=_DPO)
    return to_svg(figure, title=title)
