"""The report on all judgments as data, ready for JSON.

Judgments of people and of programs are never mixed: each kind has its own labelled panel. If raters or judgments are
flagged, a panel has a second ranking without them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harmonixr_platform.feedback.records.reader import Feedback, JudgedPair
from harmonixr_platform.feedback.reports.flags import flagged_judgments
from harmonixr_platform.feedback.reports.statistics_input import compared, rater_judgments, votes_of
from harmonixr_platform.feedback.statistics.agreement import alpha_with_interval, repeat_consistency
from harmonixr_platform.feedback.statistics.comparison_graph import Disconnected, separate_groups
from harmonixr_platform.feedback.statistics.quality import RULES, RaterQuality, rate, repeats_of, units_of
from harmonixr_platform.feedback.statistics.ranking import Ranking, Standing, rank
from harmonixr_platform.feedback.statistics.stopping import betting_sequence, rater_means, verdict
from harmonixr_platform.feedback.statistics.votes import Vote, win_matrix

# The stopping rule uses the mean of a rater's first votes on two models; a rater with fewer votes does not count.
STOP_EACH = 10
STOP_MARGIN = 0.05
_DIGITS = 4
_SCORES = {"first": 1.0, "tie": 0.5, "second": 0.0}


def report(
    feedback: Feedback,
    *,
    study: str | None = None,
    resamples: int = 200,
    stop_each: int = STOP_EACH,
    stop_margin: float = STOP_MARGIN,
) -> dict[str, Any]:
    """Return the report of all judgments, or of one study (its name or name@digest) or pool.

    `panels` has one entry for people and one for programs, if there are any; `models` and `wins` repeat those of the
    first panel. If all judgments name their study's arms, the arms are ranked instead of models (`by` is "arm").
    """
    judged = [one for one in feedback.judged if study is None or _belongs(one, study)]
    kinds = {
        "people": [one for one in judged if not one.judgment.simulated],
        "simulated": [one for one in judged if one.judgment.simulated],
    }
    # A gold pair has at most one arm.
    ranked = [one.comparison for one in judged if one.comparison.role != "gold"]
    by_arm = study is not None and bool(ranked) and all(comparison.arms is not None for comparison in ranked)
    flagged = flagged_judgments(feedback.flags)
    panels = [
        {"origin": origin}
        | _panel(of_kind, flagged, by_arm=by_arm, resamples=resamples, stop_each=stop_each, stop_margin=stop_margin)
        for origin, of_kind in kinds.items()
        if of_kind
    ]
    main: Mapping[str, Any] = panels[0]["all"] if panels else {"models": [], "wins": {}, "refusal": None}
    return {
        "study": study,
        "by": "arm" if by_arm else "model",
        "read": dict(sorted(feedback.counts.items())),
        **_counts(judged),
        "simulated": len(kinds["simulated"]),
        "origin": panels[0]["origin"] if panels else None,
        "models": main["models"],
        "wins": main["wins"],
        "refusal": main["refusal"],
        "rules": [{"rule": rule.name, "version": rule.version} for rule in RULES],
        "panels": panels,
    }


def _belongs(judged: JudgedPair, study: str) -> bool:
    version = judged.comparison.study
    return judged.comparison.pool == study or (version is not None and study in (version, version.partition("@")[0]))


def _counts(judged: Sequence[JudgedPair]) -> dict[str, Any]:
    choices = Counter(one.judgment.choice.value for one in judged)
    decided = choices["a"] + choices["b"]
    return {
        "judgments": len(judged),
        "raters": len({one.judgment.rater for one in judged}),
        "pairs": len({one.pair.pair_id for one in judged}),
        "choices": dict(sorted(choices.items())),
        "side_a_share": round(choices["a"] / decided, _DIGITS) if decided else None,
    }


def _panel(
    judged: Sequence[JudgedPair],
    flagged: set[str],
    *,
    by_arm: bool,
    resamples: int,
    stop_each: int,
    stop_margin: float,
) -> dict[str, Any]:
    """Return everything about the raters of one kind; `flagged` has the judgments with a stored flag."""
    judgments = rater_judgments(judged)
    raters = rate(judgments)
    doubtful = {quality.rater for quality in raters if quality.flags}
    unflagged = [
        one for one in judged if one.judgment.rater not in doubtful and one.judgment.judgment_id not in flagged
    ]
    alpha = alpha_with_interval(units_of(judgments), resamples=resamples)
    repeats = repeat_consistency(repeats_of(judgments))
    gold, gold_right = (sum(getattr(quality, name) for quality in raters) for name in ("gold", "gold_right"))
    return {
        **_counts(judged),
        "all": _ranking(judged, by_arm=by_arm, resamples=resamples),
        "unflagged": _ranking(unflagged, by_arm=by_arm, resamples=resamples) if len(unflagged) < len(judged) else None,
        "left_out": len(judged) - len(unflagged),
        "agreement": _rounded(asdict(alpha)) if alpha else None,
        "repeats": _rounded(asdict(repeats)) if repeats else None,
        "gold": {
            "answers": gold,
            "right": gold_right,
            "accuracy": round(gold_right / gold, _DIGITS) if gold else None,
        },
        "quality": [_quality(quality) for quality in raters],
        "stopping": _stopping(votes_of(judged, by_arm=by_arm), each=stop_each, margin=stop_margin),
    }


def _ranking(judged: Sequence[JudgedPair], *, by_arm: bool, resamples: int) -> dict[str, Any]:
    votes = votes_of(judged, by_arm=by_arm)
    content: dict[str, Any] = {
        "votes": len(votes),
        "wins": win_matrix(votes),
        "outcomes": _outcomes(judged, by_arm=by_arm),
        "models": [],
        "refusal": None,
        "groups": [list(group) for group in separate_groups(votes)],
    }
    if not votes:
        return content | {"refusal": "no judgment compares two model versions yet"}
    try:
        return content | _ranked(rank(votes, resamples=resamples))
    except Disconnected as error:
        return content | {"refusal": str(error)}


def _ranked(ranking: Ranking) -> dict[str, Any]:
    return {
        "models": [_model(standing) for standing in ranking.standings],
        "at_equal_notes": [_model(standing) for standing in ranking.at_equal_notes],
        "side_effect": _rounded(asdict(ranking.side)) if ranking.side else None,
        "notes_effect": _rounded(asdict(ranking.notes)) if ranking.notes else None,
        "ties": round(ranking.ties, _DIGITS),
        "unbounded": list(ranking.unbounded),
        "converged": ranking.converged,
        "rao_kupper": _rounded(asdict(ranking.check)),
    }


def _model(standing: Standing) -> dict[str, Any]:
    content = asdict(standing)
    return {"model_version": content.pop("model")} | _rounded(content)


def _quality(quality: RaterQuality) -> dict[str, Any]:
    content = asdict(quality)
    # Eight digits distinguish raters without identifying one.
    content["rater"] = quality.rater[:8]
    content["flags"] = [dict(flag) for flag in content["flags"]]
    return content


def _outcomes(judged: Sequence[JudgedPair], *, by_arm: bool) -> list[dict[str, Any]]:
    """Return the counts of every two models, with the raw win rate and the one weighted by 1/propensity.

    The scheduler prefers uncertain pairs. The weighted rate (Hájek's estimator) estimates the win rate over all pairs
    of the pool instead of those that were shown.
    """
    cells: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for one in judged:
        first, second = compared(one, by_arm=by_arm)
        if first == second or one.comparison.role != "plain" or one.outcome == "skip":
            continue
        reverse = first > second
        key = (second, first) if reverse else (first, second)
        outcome = {"first": "second", "second": "first"}.get(one.outcome, one.outcome) if reverse else one.outcome
        cells[key].append((outcome, 1 / one.comparison.propensity if one.comparison.propensity > 0 else 0.0))
    return [_cell(first, second, outcomes) for (first, second), outcomes in sorted(cells.items())]


def _cell(first: str, second: str, outcomes: Sequence[tuple[str, float]]) -> dict[str, Any]:
    counts = Counter(outcome for outcome, _ in outcomes)
    scored = [(_SCORES[outcome], weight) for outcome, weight in outcomes if outcome in _SCORES]
    total = sum(weight for _, weight in scored)
    return {
        "first": first,
        "second": second,
        "first_won": counts["first"],
        "second_won": counts["second"],
        "tie": counts["tie"],
        "both_bad": counts["both_bad"],
        "win_rate": round(sum(score for score, _ in scored) / len(scored), _DIGITS) if scored else None,
        "win_rate_weighted": round(sum(s * w for s, w in scored) / total, _DIGITS) if total else None,
    }


def _stopping(votes: Sequence[Vote], *, each: int, margin: float) -> list[dict[str, Any]]:
    """Return the verdict of the stopping rule on every two models, valid at any time.

    The error probability of 5 % is divided among the pairs of models.
    """
    scores: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for vote in votes:
        score = (1.0, 0.0, 0.5)[vote.outcome]
        if vote.first < vote.second:
            scores[vote.first, vote.second].append((vote.rater, score))
        else:
            scores[vote.second, vote.first].append((vote.rater, 1 - score))
    rows = []
    for (first, second), pair_scores in sorted(scores.items()):
        means = rater_means(pair_scores, each=each)
        low, high = 0.0, 1.0
        if means:
            bounds = betting_sequence(means, level=1 - 0.05 / len(scores))
            low, high = float(bounds.low_T[-1]), float(bounds.high_T[-1])
        rows.append(
            {
                "first": first,
                "second": second,
                "raters": len(means),
                "votes_each": each,
                "low": round(low, _DIGITS),
                "high": round(high, _DIGITS),
                "margin": margin,
                "verdict": verdict(low, high, margin=margin),
            }
        )
    return rows


def _rounded(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in content.items()}
