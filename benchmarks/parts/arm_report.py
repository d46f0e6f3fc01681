"""Arms beside the default: a table with intervals over pieces, and the same as a picture. Knows no training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parts.interval_plot import Interval, interval_plot

from harmonixr_model.evaluation.metrics import Estimate, Ratio, estimate, margin

Measured = list[tuple[str, Ratio]]


def tabulate(default: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """Lay out every arm: bits a note, how much more than the default's on the same gaps, and what it cost."""
    lines = [
        "| arm | bits a note | against the default | parameters | tokens | MFLOPs a token | CPU seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for made in (default, *others):
        gained = "" if made is default else _signed(against(default, made))
        lines.append(
            f"| {made['name']} | {_plain(bits_of(default, made))} | {gained} | {made['parameters'] / 1e6:.2f} M "
            f"| {made['tokens'] / 1e6:.2f} M | {made['flops_per_token'] / 1e6:.1f} | {made['seconds']:.0f} |"
        )
    overall = bits_of(default, default)
    return "\n".join(lines) + f"\n\n{overall.gaps} gaps of {overall.pieces} pieces; intervals of 95 % over pieces.\n"


def bits_of(default: dict[str, Any], made: dict[str, Any]) -> Estimate:
    """Return an arm's bits a note over the gaps that the default was asked as well."""
    return estimate(_shared(default, made)[1])


def against(default: dict[str, Any], made: dict[str, Any]) -> Estimate:
    """Return by how many bits a note an arm is worse than the default, paired by gap."""
    ours, theirs = _shared(default, made)
    return margin(theirs, ours)


def picture(default: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """Draw the arms' margins, the best at the top."""
    margins = sorted(((against(default, made), made["name"]) for made in others), key=lambda pair: pair[0].value)
    rows = [Interval(name, found.value, found.low, found.high) for found, name in margins]
    return interval_plot(rows, caption="bits a note more than the default (left is better)")


def _shared(default: dict[str, Any], made: dict[str, Any]) -> tuple[Measured, Measured]:
    """Return both sides' bits over notes of the gaps that both were asked, in the same order.

    A gap is the same where piece, shape and number of hidden notes agree: shown less, it may not have fitted.
    """
    ours = {_gap(asked): asked for asked in default["asked"]}
    theirs = {_gap(asked): asked for asked in made["asked"]}
    both = [gap for gap in ours if gap in theirs]
    one, two = (
        [(asked[gap]["piece"], Ratio(asked[gap]["bits"], asked[gap]["notes"])) for gap in both]
        for asked in (ours, theirs)
    )
    return one, two


def _gap(asked: dict[str, Any]) -> tuple[Any, ...]:
    return asked["number"], asked["piece"], asked["shape"], asked["notes"]


def _plain(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def _signed(found: Estimate) -> str:
    return f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
