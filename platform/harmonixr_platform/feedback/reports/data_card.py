"""The README of an export: what it holds, how it came about, what it may be used for. Knows no store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harmonixr_model.engine.engine import temperature_text
from harmonixr_platform.feedback.records.reader import Judged
from harmonixr_platform.feedback.reports.export_columns import COLUMNS
from harmonixr_platform.feedback.studies.store import Begun

_HOW = """## How it was collected

Each row of `judgments` is one answer to one blind presentation of two fills of the same gap, in their song, equally
loud and equally long. Sides were drawn by a fair coin. Which pair a rater heard was drawn with the chance in
`propensity`: pairs that too few raters had judged came first, the rest by how much an answer would tell of the arms'
difference, with a uniform share. A repeat shows a pair once more to the same rater, sides swapped. A gold pair has a
known answer: leave its rows out of any estimate of preference. Weigh by the propensity only within rows of one role.

Taken back answers are not here, nor anything of a rater who asked to be erased. Whoever holds a copy replaces it by a
later export when told so."""

_LIMITS = """## Limits

Raters are whoever came, not a sample of listeners. Answers of one rater are not independent: cluster intervals by
`rater`. Songs and fills keep the licence of the song they come from; this card grants none."""


def data_card(
    dataset_id: str, *, counts: Mapping[str, int], judged: Sequence[Judged], begun: Begun | None, study: str | None
) -> str:
    """Return the card as Markdown."""
    parts = [
        f"# Listening judgments: {study or 'all studies'}",
        f"Dataset `{dataset_id}`, the hash of its rows. {_told(counts)}",
        *([_SIMULATED.format(**counts)] if counts["simulated"] else []),
        *([_definition(begun)] if begun else []),
        _HOW,
        _consents(judged, begun),
        _LIMITS,
        *(_table(name) for name in COLUMNS),
    ]
    return "\n\n".join(parts) + "\n"


_SIMULATED = (
    "**{simulated} of the {judgments} answers were made by programs, not people** (`simulated`). "
    "They say nothing of what listeners like."
)


def _told(counts: Mapping[str, int]) -> str:
    return (
        f"{counts['judgments']} judgments by {counts['raters']} raters of {counts['pairs']} pairs from "
        f"{counts['pieces']} pieces; among them {counts['repeats']} repeats and {counts['gold']} answers to gold pairs."
    )


def _definition(begun: Begun) -> str:
    study = begun.study
    arms = "\n".join(
        f"- {arm.name}: model {begun.models[arm.name]}, temperature {temperature_text(arm.sampling.temperature)}, "
        f"top-k {arm.sampling.top_k}, top-p {arm.sampling.top_p:g}"
        for arm in study.arms
    )
    return f"## The study\n\n`{study.version}`, begun {begun.begun:%Y-%m-%d}. Asked: “{study.question}”\n\n{arms}"


def _consents(judged: Sequence[Judged], begun: Begun | None) -> str:
    people = [one.judgment for one in judged if not one.judgment.simulated]
    versions = Counter(j.consent.version if j.consent else "none recorded" for j in people)
    told = ", ".join(f"{count} under version {version}" for version, count in sorted(versions.items()))
    kept = f" They are kept for {begun.study.retention_days} days." if begun else ""
    by_wording = f"Answers of people by the wording they agreed to: {told or 'there are none'}."
    return f"## Consent and retention\n\n{by_wording}{kept}"


def _table(name: str) -> str:
    rows = "\n".join(f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in COLUMNS[name])
    return f"## `{name}`\n\n| column | kind | meaning |\n|---|---|---|\n{rows}"
