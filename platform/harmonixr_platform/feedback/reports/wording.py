"""The sentences that the text report and the HTML report have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NO_RANKING = "No judgment compares two model versions yet, so there is no ranking."
_LEFT_OUT = ("retracted", "erased", "revoted", "orphaned", "unreadable")
_VERDICTS = {
    "first": "{first} is better: stop",
    "second": "{second} is better: stop",
    "equal": "no difference beyond {margin:.0%}: stop",
    "go_on": "continue",
}


def summary(content: Mapping[str, Any]) -> str:
    """Return the counts of a report as one phrase."""
    return (
        f"{content['judgments']} judgments ({content['simulated']} simulated) by {content['raters']} raters "
        f"on {content['pairs']} pairs"
    )


def left_out(content: Mapping[str, Any]) -> str:
    """Return which records are not in the report; empty if none."""
    read = content["read"]
    counts = ", ".join(f"{read[name]} {name}" for name in _LEFT_OUT if read.get(name))
    return f"Left out: {counts}." if counts else ""


def ranking_notes(ranking: Mapping[str, Any]) -> list[str]:
    """Return the sentences below a ranking: effects, the second model, and warnings."""
    notes = []
    if ranking["side_effect"]:
        notes.append(f"Side a adds {_effect(ranking['side_effect'])} to the log odds.")
    if ranking["notes_effect"]:
        order = ", ".join(f"{m['model_version'][:12]} {m['strength']:+.2f}" for m in ranking["at_equal_notes"])
        notes.append(f"Twice the notes add {_effect(ranking['notes_effect'])}; at equal note counts: {order}.")
    check = ranking["rao_kupper"]
    same = "the same order" if check["same_order"] else "ANOTHER order"
    notes.append(f"Rao and Kupper's model gives {same}; win rates differ by {check['largest_gap']:.1%} at most.")
    if ranking["unbounded"]:
        notes.append(f"{', '.join(ranking['unbounded'])} never lost to the others, so the distance to them is unknown.")
    if not ranking["converged"]:
        notes.append("The fit did not converge: these strengths are not reliable.")
    return notes


def agreement_notes(panel: Mapping[str, Any]) -> list[str]:
    """Return the sentences about side preference, agreement, repeats and gold pairs."""
    notes = []
    if panel["side_a_share"] is not None:
        notes.append(f"Side a was preferred in {panel['side_a_share']:.0%} of the decided judgments.")
    alpha, repeats, gold = panel["agreement"], panel["repeats"], panel["gold"]
    if alpha:
        bounds = f"95 % CI {interval(alpha['low'], alpha['high'])}"
        notes.append(f"Krippendorff's α is {alpha['value']:.2f} ({bounds}) on {alpha['units']} pairs.")
    if repeats:
        noise = "" if repeats["noise"] is None else f"; an error rate of {repeats['noise']:.0%} would explain it"
        notes.append(
            f"Repeated pairs: {repeats['same']} of {repeats['repeats']} judged the same "
            f"({repeats['by_chance']:.0%} expected by chance){noise}."
        )
    if gold["answers"]:
        notes.append(f"Gold pairs: {gold['right']} of {gold['answers']} correct.")
    return notes


def verdict_text(row: Mapping[str, Any]) -> str:
    """Return the verdict of the stopping rule on two models."""
    return _VERDICTS[row["verdict"]].format(**row)


def interval(low: float | None, high: float | None) -> str:
    """Return the bounds of an interval of log odds or α."""
    return "one rater: unknown" if low is None or high is None else f"{low:+.2f} … {high:+.2f}"


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return "–" if value is None else f"{value:.1%}"


def _effect(effect: Mapping[str, Any]) -> str:
    return f"{effect['value']:+.2f} (95 % CI {interval(effect['low'], effect['high'])})"
