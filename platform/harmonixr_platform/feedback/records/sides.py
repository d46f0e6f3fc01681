"""The candidates on the sides of a comparison, and the models that its receipt reveals."""

from __future__ import annotations

from harmonixr_platform.schemas import Candidate, Comparison, Pair


def sides(pair: Pair, comparison: Comparison) -> tuple[Candidate, Candidate]:
    """Return the candidates on sides a and b."""
    return (pair.second, pair.first) if comparison.swapped else (pair.first, pair.second)


def revealed_models(pair: Pair, comparison: Comparison) -> tuple[str, str]:
    """Return the models that the receipt of a judgment names for sides a and b.

    Both are empty in a study: there the rater may retract the vote, the pair may come again, or it may be a gold pair.
    """
    if comparison.study is not None:
        return "", ""
    a, b = sides(pair, comparison)
    return a.model_version, b.model_version
