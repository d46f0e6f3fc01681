"""The data card (README) of an export: contents, collection, consent and limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harmonixr_model.engine.engine import temperature_text
from harmonixr_platform.feedback.records.reader import JudgedPair
from harmonixr_platform.feedback.reports.export_columns import COLUMNS
from harmonixr_platform.feedback.studies.store import BegunStudy

_HOW = """## How it was collected

Each row of `judgments` is one judgment of one blind presentation of two fills of the same gap in their song, with equal
loudness and duration. A fair coin decided the sides. The pair was chosen with the probability in `propensity`: pairs
with too few raters came first, then pairs by the information that a judgment would give about the arms, with a uniform
share. A repeat shows a pair again to the same rater with the sides swapped. A gold pair has a known outcome: exclude
its rows from any estimate of preference. Weight by the propensity only within rows of one role.

Retracted judgments and all records of erased raters are not included. Replace your copy by a later export when the
publisher requests it."""

_LIMITS = """## Limits

The raters are volunteers, not a random sample of listeners. Judgments of one rater are not independent: cluster
intervals by `rater`. Songs and fills have the licence of their source song; this card grants none."""


def data_card(
    dataset_id: str,
    *,
    counts: Mapping[str, int],
    judged: Sequence[JudgedPair],
    begun: BegunStudy | None,
    study: str | None,
) -> str:
    """Return the card as Markdown."""
    parts = [
        f"# Listening judgments: {study or 'all studies'}",
        f"Dataset `{dataset_id}`, the hash of its rows. {_counts(counts)}",
        *([_SIMULATED.format(**counts)] if counts["simulated"] else []),
        *([_definition(begun)] if begun else []),
        _HOW,
        _consents(judged, begun),
        _LIMITS,
        *(_table(name) for name in COLUMNS),
    ]
    return "\n\n".join(parts) + "\n"


_SIMULATED = (
    "**{simulated} of the {judgments} judgments were made by programs, not people** (`simulated`). "
    "They do not show what listeners prefer."
)


def _counts(counts: Mapping[str, int]) -> str:
    return (
        f"{counts['judgments']} judgments by {counts['raters']} raters of {counts['pairs']} pairs from "
        f"{counts['pieces']} pieces, including {counts['repeats']} repeats and {counts['gold']} of gold pairs."
    )


def _definition(begun: BegunStudy) -> str:
    study = begun.study
    arms = "\n".join(
        f"- {arm.name}: model {begun.models[arm.name]}, temperature {temperature_text(arm.sampling.temperature)}, "
        f"top-k {arm.sampling.top_k}, top-p {arm.sampling.top_p:g}"
        for arm in study.arms
    )
    return f"## The study\n\n`{study.version}`, begun {begun.begun:%Y-%m-%d}. Question: “{study.question}”\n\n{arms}"


def _consents(judged: Sequence[JudgedPair], begun: BegunStudy | None) -> str:
    people = [one.judgment for one in judged if not one.judgment.simulated]
    versions = Counter(j.consent.version if j.consent else "none recorded" for j in people)
    by_version = ", ".join(f"{count} under version {version}" for version, count in sorted(versions.items()))
    retention = f" They are stored for {begun.study.retention_days} days." if begun else ""
    by_wording = f"Judgments of people by the consent version that they agreed to: {by_version or 'none'}."
    return f"## Consent and retention\n\n{by_wording}{retention}"


def _table(name: str) -> str:
    rows = "\n".join(f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in COLUMNS[name])
    return f"## `{name}`\n\n| column | kind | meaning |\n|---|---|---|\n{rows}"
