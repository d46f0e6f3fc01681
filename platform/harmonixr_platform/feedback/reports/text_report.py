"""The report as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harmonixr_platform.feedback.reports import wording

_TITLES = {"people": "People", "simulated": "SIMULATED raters (programs, not people)"}


def report_text(content: Mapping[str, Any]) -> str:
    """Return the report as lines of text."""
    of_study = f"study {content['study']}: " if content["study"] else ""
    choices = ", ".join(f"{count} {choice}" for choice, count in content["choices"].items())
    lines = [f"{of_study}{wording.summary(content)}{': ' if choices else ''}{choices}"]
    if left_out := wording.left_out(content):
        lines.append(left_out)
    if not content["panels"]:
        lines.append(wording.NO_RANKING)
    for panel in content["panels"]:
        lines += ["", f"== {_TITLES[panel['origin']]}: {panel['judgments']} judgments by {panel['raters']} raters"]
        lines += _panel(panel)
    return "\n".join(lines)


def _panel(panel: Mapping[str, Any]) -> list[str]:
    lines = _ranking(panel["all"])
    if panel["unflagged"] is not None:
        lines += ["", f"without flagged raters and judgments ({panel['left_out']} judgments left out)"]
        lines += _ranking(panel["unflagged"])
    lines += ["", *_outcomes(panel["all"]), *wording.agreement_notes(panel)]
    lines += [
        f"flag {flag['rule']} v{flag['version']}: rater {quality['rater'][:8]} {flag['reason']}"
        for quality in panel["quality"]
        for flag in quality["flags"]
    ]
    lines += [
        f"stopping: {row['first'][:12]} against {row['second'][:12]}: win rate {row['low']:.0%} … {row['high']:.0%} "
        f"(anytime-valid), {row['raters']} raters with {row['votes_each']} votes: {wording.verdict_text(row)}"
        for row in panel["stopping"]
    ]
    return lines


def _ranking(ranking: Mapping[str, Any]) -> list[str]:
    if ranking["refusal"]:
        return [f"no ranking: {ranking['refusal']}"]
    lines = [f"{'model':<16}{'votes':>7}{'strength':>10}   95 % CI over raters  95 % CI of independent votes"]
    for model in ranking["models"]:
        ours = wording.interval(model["low"], model["high"])
        lines.append(
            f"{model['model_version'][:15]:<16}{model['votes']:>7}{model['strength']:>+10.2f}   {ours:<21}"
            f"{wording.interval(model['iid_low'], model['iid_high'])}"
        )
    return lines + wording.ranking_notes(ranking)


def _outcomes(ranking: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{'first':<14}{'second':<14}{'won':>5}{'lost':>6}{'tie':>5}{'both bad':>10}{'win rate':>10}{'weighted':>10}"
    ]
    for cell in ranking["outcomes"]:
        lines.append(
            f"{cell['first'][:13]:<14}{cell['second'][:13]:<14}{cell['first_won']:>5}{cell['second_won']:>6}"
            f"{cell['tie']:>5}{cell['both_bad']:>10}{wording.percent(cell['win_rate']):>10}"
            f"{wording.percent(cell['win_rate_weighted']):>10}"
        )
    return lines if len(lines) > 1 else []
