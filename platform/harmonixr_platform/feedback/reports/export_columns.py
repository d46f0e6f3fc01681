"""The columns of an export: name, kind, meaning, and the attribute that each value is read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal

from harmonixr_platform.schemas import Strict


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an exported table; `source` is a path of attributes, empty for values computed elsewhere."""

    name: str
    kind: Literal["text", "flag", "real", "whole", "texts", "tokens"]
    meaning: str
    source: str = ""

    def value(self, row: object) -> Any:
        """Return the column's value of a JudgedPair or Pair as plain JSON data; None if a part of the path is None."""
        value: Any = row
        for part in self.source.split("."):
            if value is not None:
                value = value[int(part)] if part.isdigit() else getattr(value, part)
        return _plain(value)


def table_row(columns: Sequence[Column], source: object) -> dict[str, Any]:
    """Return the values of all columns that have a source."""
    return {column.name: column.value(source) for column in columns if column.source}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Strict):
        return value.model_dump_json()
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


_JUDGMENTS = (
    Column("judgment_id", "text", "id of the judgment", "judgment.judgment_id"),
    Column("comparison_id", "text", "id of the presentation; it has one judgment", "judgment.comparison_id"),
    Column("pair_id", "text", "the row of `pairs` that was judged", "judgment.pair_id"),
    Column("piece_id", "text", "the source piece: split train and test by it, never by row", "pair.piece_id"),
    Column("rater", "text", "keyed pseudonym; the key is stored nowhere", "judgment.rater"),
    Column("simulated", "flag", "judged by a program, not a person", "judgment.simulated"),
    Column("outcome", "text", "first, second, tie, both_bad or skip, by the pair's candidates", "outcome"),
    Column("choice", "text", "the same by side: a, b, tie, both_bad or skip", "judgment.choice"),
    Column("strength", "whole", "1 slightly, 2 clearly, 3 far better; empty if not given", "judgment.strength"),
    Column("tags", "texts", "what decided it", "judgment.tags"),
    Column("comment", "text", "free text of the rater", "judgment.comment"),
    Column("swapped", "flag", "whether side a was the pair's second fill", "comparison.swapped"),
    Column("source", "text", "study, or own_prompt: two fills of the rater's own gap", "comparison.source"),
    Column("pool", "text", "name of the study or pool", "comparison.pool"),
    Column("study", "text", "name@hash of the study's definition", "comparison.study"),
    Column("first_arm", "text", "the study's arm that made the first fill", "comparison.arms.0"),
    Column("second_arm", "text", "the study's arm that made the second fill", "comparison.arms.1"),
    Column("first_model", "text", "model version of the first fill", "pair.first.model_version"),
    Column("second_model", "text", "model version of the second fill", "pair.second.model_version"),
    Column(
        "role", "text", "plain, repeat (same rater, sides swapped) or gold (the outcome is known)", "comparison.role"
    ),
    Column("expected", "text", "the known outcome of a gold pair", "comparison.expected"),
    Column("repeats", "text", "the comparison that this one repeats", "comparison.repeats"),
    Column(
        "propensity",
        "real",
        "probability with which this pair was chosen in this role, at that moment, for this rater",
        "comparison.propensity",
    ),
    Column(
        "heard_a", "real", "share of the fill heard on side a, 0 to 1, each second once", "judgment.listening.heard_a"
    ),
    Column("heard_b", "real", "share of the fill heard on side b", "judgment.listening.heard_b"),
    Column("seconds", "real", "total playing time", "judgment.listening.seconds"),
    Column("switches", "whole", "how often the rater changed sides", "judgment.listening.switches"),
    Column("headphones", "text", "result of the headphone check", "judgment.listening.headphones"),
    Column("consent", "text", "consent version that the rater agreed to", "judgment.consent.version"),
    Column("shown", "text", "time at which the pair was shown", "comparison.created"),
    Column("received", "text", "time at which the judgment was received", "judgment.received"),
    Column("flags", "texts", "quality rules that flag the judgment, rule@version"),
)


def _candidate_columns(side: str) -> tuple[Column, ...]:
    columns: tuple[tuple[str, Literal["text", "whole", "tokens"], str], ...] = (
        ("model_version", "text", f"model of the {side} fill; `broken` for a gold pair's broken copy"),
        ("checkpoint_sha256", "text", "its weights"),
        ("sampling", "text", "temperature, top_k, top_p as JSON"),
        ("seed", "whole", "seed: with model and sampling it reproduces the fill"),
        ("tokens", "tokens", "fill token ids, one list for each window of the region"),
        ("midi_sha256", "text", "hash of the filled file"),
        ("midi_base64", "text", "the filled file"),
    )
    return tuple(Column(f"{side}_{name}", kind, meaning, f"{side}.{name}") for name, kind, meaning in columns)


_PAIRS = (
    Column("pair_id", "text", "hash of all other columns", "pair_id"),
    Column("piece_id", "text", "the source piece", "piece_id"),
    Column("context_sha256", "text", "hash of the song", "context_sha256"),
    Column("context_base64", "text", "the song", "context_base64"),
    Column("region", "text", "the gap, as JSON", "region"),
    Column("controls", "text", "controls of both fills, as JSON", "controls"),
    Column("vocabulary_hash", "text", "the vocabulary of the tokens", "vocabulary_hash"),
    *_candidate_columns("first"),
    *_candidate_columns("second"),
)

COLUMNS = {"judgments": _JUDGMENTS, "pairs": _PAIRS}
