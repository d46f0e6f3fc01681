"""The progress of a study: its counts and the verdicts of its stopping rule.

The rule may be checked at any time: its intervals hold at all looks simultaneously (`statistics/stopping.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from harmonixr_platform.feedback.records.reader import Feedback
from harmonixr_platform.feedback.reports.report import report
from harmonixr_platform.feedback.studies.definition import Study

# The verdicts need no bootstrap, so the report may use few resamples.
_RESAMPLES = 20


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """The counts and verdicts of a study; `reason` is why it may stop, None while it should continue."""

    judgments: int
    raters: int
    simulated: int
    verdicts: tuple[str, ...]
    reason: str | None


def study_progress(study: Study, feedback: Feedback) -> StudyProgress:
    """Return the progress of a study. Judgments of people decide; those of programs only if there are no others."""
    content = report(
        feedback,
        study=study.name,
        resamples=_RESAMPLES,
        stop_each=study.stopping.answers_each,
        stop_margin=study.stopping.margin,
    )
    rows = content["panels"][0]["stopping"] if content["panels"] else []
    judgments = sum(one.comparison.role == "plain" for one in feedback.judged if one.comparison.pool == study.name)
    reason = None
    if judgments >= study.stopping.most_judgments:
        reason = f"it has the {study.stopping.most_judgments} judgments that it needs"
    elif rows and all(row["verdict"] != "go_on" for row in rows):
        reason = "; ".join(_verdict(row) for row in rows)
    return StudyProgress(
        judgments=content["judgments"],
        raters=content["raters"],
        simulated=content["simulated"],
        verdicts=tuple(
            f"{row['first']} against {row['second']}: {_verdict(row)} (win rate {row['low']:.2f} to {row['high']:.2f}, "
            f"{row['raters']} raters)"
            for row in rows
        ),
        reason=reason,
    )


def _verdict(row: dict[str, str]) -> str:
    return {
        "first": f"{row['first']} is preferred",
        "second": f"{row['second']} is preferred",
        "equal": f"no difference of more than {row['margin']} between {row['first']} and {row['second']}",
        "go_on": "not decided",
    }[row["verdict"]]
