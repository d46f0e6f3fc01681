"""Compare arms with the default: a table with intervals over pieces, and the same as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parts.interval_plot import Interval, interval_plot

from harmonixr_model.evaluation.metrics import Estimate, Ratio, estimate, margin

Measured = list[tuple[str, Ratio]]


def tabulate(default: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """Return a table of bits per note, their difference from the default on the same gaps, and the cost of each arm."""
    lines = [
        "| arm | bits per note | difference from the default | parameters | tokens | MFLOPs per token | CPU seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for made in (default, *others):
        difference = "" if made is default else _signed(difference_from_default(default, made))
        lines.append(
            f"| {made['name']} | {_plain(bits_of(default, made))} | {difference} | {made['parameters'] / 1e6:.2f} M "
            f"| {made['tokens'] / 1e6:.2f} M | {made['flops_per_token'] / 1e6:.1f} | {made['seconds']:.0f} |"
        )
    overall = bits_of(default, default)
    return "\n".join(lines) + f"\n\n{overall.gaps} gaps of {overall.pieces} pieces; 95 % intervals over pieces.\n"


def bits_of(default: dict[str, Any], made: dict[str, Any]) -> Estimate:
    """Return an arm's bits per note over the gaps that it shares with the default."""
    return estimate(_shared(default, made)[1])


def difference_from_default(default: dict[str, Any], made: dict[str, Any]) -> Estimate:
    """Return an arm's bits per note minus those of the default, paired by gap."""
    ours, theirs = _shared(default, made)
    return margin(theirs, ours)


def plot(default: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """Plot the differences of the arms, the best first."""
    margins = sorted(
        ((difference_from_default(default, made), made["name"]) for made in others), key=lambda pair: pair[0].value
    )
    rows = [Interval(name, found.value, found.low, found.high) for found, name in margins]
    return interval_plot(rows, caption="bits per note minus the default (left is better)")


def _shared(default: dict[str, Any], made: dict[str, Any]) -> tuple[Measured, Measured]:
    """Return both sides' bits and notes of the shared gaps, in the same order.

    A gap is shared if number, piece, shape and hidden notes agree. With another context a gap may not fit.
    """
    ours = {_gap(item): item for item in default["asked"]}
    theirs = {_gap(item): item for item in made["asked"]}
    both = [gap for gap in ours if gap in theirs]
    one, two = (
        [(items[gap]["piece"], Ratio(items[gap]["bits"], items[gap]["notes"])) for gap in both]
        for items in (ours, theirs)
    )
    return one, two


def _gap(item: dict[str, Any]) -> tuple[Any, ...]:
    return item["number"], item["piece"], item["shape"], item["notes"]


def _plain(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def _signed(found: Estimate) -> str:
    return f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
