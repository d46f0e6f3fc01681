"""Has a study's stopping rule decided? Counts and the statistics' own verdicts, read together. Knows no store.

Safe to look at as often as one likes: the intervals hold at every look at once (`statistics/stopping.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from harmonixr_platform.feedback.records.reader import Feedback
from harmonixr_platform.feedback.reports.report import report
from harmonixr_platform.feedback.studies.definition import Study

_DRAWS = 20


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """Where a study stands; `reason` says why it may stop, None while it should go on."""

    judgments: int
    raters: int
    simulated: int
    verdicts: tuple[str, ...]
    reason: str | None


def study_progress(study: Study, feedback: Feedback) -> StudyProgress:
    """Return where a study stands. People decide; programs only where nobody else has answered."""
    content = report(
        feedback,
        study=study.name,
        draws=_DRAWS,
        stop_each=study.stopping.answers_each,
        stop_margin=study.stopping.margin,
    )
    rows = content["panels"][0]["stopping"] if content["panels"] else []
    judgments = sum(one.comparison.role == "plain" for one in feedback.judged if one.comparison.pool == study.name)
    reason = None
    if judgments >= study.stopping.most_judgments:
        reason = f"it has the {study.stopping.most_judgments} judgments it asked for"
    elif rows and all(row["verdict"] != "go_on" for row in rows):
        reason = "; ".join(_said(row) for row in rows)
    return StudyProgress(
        judgments=content["judgments"],
        raters=content["raters"],
        simulated=content["simulated"],
        verdicts=tuple(
            f"{row['first']} against {row['second']}: {_said(row)} (win rate {row['low']:.2f} to {row['high']:.2f}, "
            f"{row['raters']} raters)"
            for row in rows
        ),
        reason=reason,
    )


def _said(row: dict[str, str]) -> str:
    return {
        "first": f"{row['first']} is preferred",
        "second": f"{row['second']} is preferred",
        "equal": f"no difference of more than {row['margin']} between {row['first']} and {row['second']}",
        "go_on": "not decided",
    }[row["verdict"]]
