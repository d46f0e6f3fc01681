"""What every column of an export is called, holds and means: the schema and the data card are both made of this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an exported table."""

    name: str
    kind: Literal["text", "flag", "real", "whole", "texts", "tokens"]
    meaning: str


_JUDGMENTS = (
    Column("judgment_id", "text", "names the answer"),
    Column("comparison_id", "text", "names the presentation; one answer each"),
    Column("pair_id", "text", "the row of `pairs` that was heard"),
    Column("piece_id", "text", "the source piece: split train and test by it, never by row"),
    Column("rater", "text", "keyed pseudonym; the key is stored nowhere"),
    Column("simulated", "flag", "answered by a program, not a person"),
    Column("outcome", "text", "first, second, tie, both_bad or skip, in the pair's terms"),
    Column("choice", "text", "the same by side: a, b, tie, both_bad or skip"),
    Column("strength", "whole", "1 slightly, 2 clearly, 3 far better; empty where not said"),
    Column("tags", "texts", "what decided it"),
    Column("comment", "text", "free words of the rater"),
    Column("swapped", "flag", "whether side a was the pair's second fill"),
    Column("source", "text", "study, or own_prompt: two fills of the rater's own gap"),
    Column("pool", "text", "name of the study or pool"),
    Column("study", "text", "name@hash of the study's definition"),
    Column("first_arm", "text", "the study's arm that made the first fill"),
    Column("second_arm", "text", "the study's arm that made the second fill"),
    Column("first_model", "text", "model version of the first fill"),
    Column("second_model", "text", "model version of the second fill"),
    Column("role", "text", "plain, repeat (the same rater, sides swapped) or gold (the right answer is known)"),
    Column("expected", "text", "the right outcome of a gold pair"),
    Column("repeats", "text", "the comparison that this one repeats"),
    Column("propensity", "real", "chance with which this pair was chosen in this role, at that moment, for this rater"),
    Column("heard_a", "real", "part of the fill heard on side a, 0 to 1, each second once"),
    Column("heard_b", "real", "part of the fill heard on side b"),
    Column("seconds", "real", "how long anything played"),
    Column("switches", "whole", "how often the rater changed sides"),
    Column("headphones", "text", "how the headphone check ended"),
    Column("consent", "text", "version of the wording that the rater agreed to"),
    Column("shown", "text", "when the pair was shown"),
    Column("received", "text", "when the answer came"),
    Column("flags", "texts", "quality rules that put it in doubt, rule@version"),
)


def _side(side: str) -> tuple[Column, ...]:
    return (
        Column(f"{side}_model_version", "text", f"model of the {side} fill; `broken` for a gold pair's spoilt copy"),
        Column(f"{side}_checkpoint_sha256", "text", "its weights"),
        Column(f"{side}_sampling", "text", "temperature, top_k, top_p as JSON"),
        Column(f"{side}_seed", "whole", "seed: with model and sampling it makes the fill again"),
        Column(f"{side}_tokens", "tokens", "fill token ids, one list a window of the region"),
        Column(f"{side}_midi_sha256", "text", "hash of the filled file"),
        Column(f"{side}_midi_base64", "text", "the filled file"),
    )


_PAIRS = (
    Column("pair_id", "text", "hash of all that follows"),
    Column("piece_id", "text", "the source piece"),
    Column("context_sha256", "text", "hash of the song that was given"),
    Column("context_base64", "text", "the song"),
    Column("region", "text", "the gap, as JSON"),
    Column("controls", "text", "limits that both fills keep, as JSON"),
    Column("vocabulary_hash", "text", "which vocabulary the tokens are of"),
    *_side("first"),
    *_side("second"),
)

COLUMNS = {"judgments": _JUDGMENTS, "pairs": _PAIRS}
