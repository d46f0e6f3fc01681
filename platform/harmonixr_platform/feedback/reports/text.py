"""The report as a person reads it in a terminal. Knows nothing but the report's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TITLES = {"people": "People", "simulated": "SIMULATED raters (programs, not people)"}
_VERDICTS = {
    "first": "{first} is better: stop",
    "second": "{second} is better: stop",
    "equal": "no difference beyond {margin:.0%}: stop",
    "go_on": "go on",
}


def report_text(content: Mapping[str, Any]) -> str:
    """Return the report as lines."""
    lines = [_summary(content)]
    left_out = {
        name: content["read"].get(name, 0) for name in ("retracted", "erased", "revoted", "orphaned", "unreadable")
    }
    if any(left_out.values()):
        lines.append("left out: " + ", ".join(f"{count} {name}" for name, count in left_out.items() if count))
    if not content["panels"]:
        lines.append("no answer compares two model versions yet, so there is no ranking")
    for panel in content["panels"]:
        lines += ["", f"== {_TITLES[panel['origin']]}: {panel['judgments']} judgments by {panel['raters']} raters"]
        lines += _panel(panel)
    return "\n".join(lines)


def _summary(content: Mapping[str, Any]) -> str:
    choices = ", ".join(f"{count} {choice}" for choice, count in content["choices"].items())
    of_study = f"study {content['study']}: " if content["study"] else ""
    return (
        f"{of_study}{content['judgments']} judgments ({content['simulated']} simulated) by {content['raters']} raters "
        f"on {content['pairs']} pairs{': ' if choices else ''}{choices}"
    )


def _panel(panel: Mapping[str, Any]) -> list[str]:
    lines = _ranking(panel["all"])
    if panel["unflagged"] is not None:
        lines += ["", f"without flagged raters and answers ({panel['left_out']} judgments left out)"]
        lines += _ranking(panel["unflagged"])
    return [*lines, "", *_outcomes(panel["all"]), *_agreement(panel), *_flags(panel), *_stopping(panel)]


def _ranking(ranking: Mapping[str, Any]) -> list[str]:
    if ranking["refusal"]:
        return [f"no ranking: {ranking['refusal']}"]
    lines = [f"{'model':<16}{'votes':>7}{'strength':>10}   95 % over raters    95 % if votes were independent"]
    for model in ranking["models"]:
        ours = _interval(model["low"], model["high"])
        lines.append(
            f"{model['model_version'][:15]:<16}{model['votes']:>7}{model['strength']:>+10.2f}   {ours:<20}"
            f"{_interval(model['iid_low'], model['iid_high'])}"
        )
    if ranking["side_effect"]:
        lines.append(f"side a adds {_effect(ranking['side_effect'])} to the log odds")
    if ranking["notes_effect"]:
        order = " > ".join(f"{m['model_version'][:12]} {m['strength']:+.2f}" for m in ranking["at_equal_notes"])
        lines.append(f"twice the notes add {_effect(ranking['notes_effect'])}; at equal note counts: {order}")
    check = ranking["rao_kupper"]
    same = "the same order" if check["same_order"] else "ANOTHER order"
    lines.append(f"Rao and Kupper's model gives {same}; win rates differ by {check['largest_gap']:.1%} at most")
    if ranking["unbounded"]:
        lines.append(f"{', '.join(ranking['unbounded'])} never lost to the rest: how far above is not known")
    if not ranking["converged"]:
        lines.append("the fit did not converge: do not trust these strengths")
    return lines


def _outcomes(ranking: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{'first':<14}{'second':<14}{'won':>5}{'lost':>6}{'tie':>5}{'both bad':>10}{'win rate':>10}{'weighted':>10}"
    ]
    for cell in ranking["outcomes"]:
        lines.append(
            f"{cell['first'][:13]:<14}{cell['second'][:13]:<14}{cell['first_won']:>5}{cell['second_won']:>6}"
            f"{cell['tie']:>5}{cell['both_bad']:>10}{_share(cell['win_rate']):>10}"
            f"{_share(cell['win_rate_weighted']):>10}"
        )
    return lines if len(lines) > 1 else []


def _agreement(panel: Mapping[str, Any]) -> list[str]:
    lines = []
    if panel["side_a_share"] is not None:
        lines.append(f"side a was preferred in {panel['side_a_share']:.0%} of the decided answers")
    alpha, repeats, gold = panel["agreement"], panel["repeats"], panel["gold"]
    if alpha:
        at = _interval(alpha["low"], alpha["high"])
        lines.append(f"agreement: Krippendorff's α {alpha['value']:.2f} ({at}) on {alpha['units']} pairs")
    if repeats:
        noise = "" if repeats["noise"] is None else f"; {repeats['noise']:.0%} of answers turned would explain it"
        lines.append(
            f"repeats: the same answer {repeats['same']} of {repeats['repeats']} times "
            f"(by chance {repeats['by_chance']:.0%}){noise}"
        )
    if gold["answers"]:
        lines.append(f"gold pairs: {gold['right']} of {gold['answers']} right")
    return lines


def _flags(panel: Mapping[str, Any]) -> list[str]:
    return [
        f"flag {flag['rule']} v{flag['version']}: rater {quality['rater'][:8]} {flag['reason']}"
        for quality in panel["quality"]
        for flag in quality["flags"]
    ]


def _stopping(panel: Mapping[str, Any]) -> list[str]:
    return [
        f"stopping: {row['first'][:12]} over {row['second'][:12]}: win rate in {row['low']:.0%} … {row['high']:.0%} at "
        f"any look, by {row['raters']} raters with {row['votes_each']} votes: "
        + _VERDICTS[row["verdict"]].format(**row)
        for row in panel["stopping"]
    ]


def _effect(effect: Mapping[str, Any]) -> str:
    return f"{effect['value']:+.2f} ({_interval(effect['low'], effect['high'])})"


def _interval(low: float | None, high: float | None) -> str:
    return "one rater: unknown" if low is None or high is None else f"{low:+.2f} … {high:+.2f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
