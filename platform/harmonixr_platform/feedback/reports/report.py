"""What the judgments say so far, as data. Knows nothing of where they are stored, nor of how a report looks.

Answers of people and of programs are never mixed: each kind is a panel of its own, labelled. A panel is reported twice
where raters are flagged: all raters, and without the flagged ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harmonixr_platform.feedback.records.reader import Feedback, Judged
from harmonixr_platform.feedback.reports.flags import in_doubt
from harmonixr_platform.feedback.reports.leaderboard import answers_of, entrants, is_vote, vote_of, votes_of, win_matrix
from harmonixr_platform.feedback.statistics.agreement import alpha_with_interval, repeat_consistency
from harmonixr_platform.feedback.statistics.connected import Disconnected, separate_groups
from harmonixr_platform.feedback.statistics.quality import RULES, RaterQuality, rate, repeats_of, units_of
from harmonixr_platform.feedback.statistics.ranking import Ranking, Standing, rank
from harmonixr_platform.feedback.statistics.stopping import betting_sequence, rater_means, verdict

# A rater enters the stopping rule with this many votes on a pair of models, and counts once.
STOP_EACH = 10
STOP_MARGIN = 0.05
_DIGITS = 4
_SCORES = {"first": 1.0, "tie": 0.5, "second": 0.0}


def report(
    feedback: Feedback,
    *,
    study: str | None = None,
    draws: int = 200,
    stop_each: int = STOP_EACH,
    stop_margin: float = STOP_MARGIN,
) -> dict[str, Any]:
    """Return all that a leaderboard shows, ready for JSON.

    `panels` holds one entry for people and one for programs, as far as there are any; `models` and `wins` repeat the
    first panel's. `study` keeps one study's judgments (its name, or its name@digest) or one pool's; where all of them
    name their study's arms, those are ranked (`by` says "arm") in place of model versions.
    """
    judged = [one for one in feedback.judged if study is None or _belongs(one, study)]
    kinds = {
        "people": [one for one in judged if not one.judgment.simulated],
        "simulated": [one for one in judged if one.judgment.simulated],
    }
    # A gold pair has one arm at most.
    ranked = [one.comparison for one in judged if one.comparison.role != "gold"]
    by_arm = study is not None and bool(ranked) and all(comparison.arms is not None for comparison in ranked)
    flagged = in_doubt(feedback.flags)
    panels = [
        {"origin": origin}
        | _panel(answers, recorded=flagged, by_arm=by_arm, draws=draws, stop_each=stop_each, stop_margin=stop_margin)
        for origin, answers in kinds.items()
        if answers
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


def _belongs(judged: Judged, study: str) -> bool:
    named = judged.comparison.study
    return judged.comparison.pool == study or (named is not None and study in (named, named.partition("@")[0]))


def _counts(judged: Sequence[Judged]) -> dict[str, Any]:
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
    judged: Sequence[Judged], *, recorded: set[str], by_arm: bool, draws: int, stop_each: int, stop_margin: float
) -> dict[str, Any]:
    """Return everything on raters of one kind; `recorded` names judgments that a stored flag puts in doubt."""
    answers = answers_of(judged)
    raters = rate(answers)
    in_doubt = {quality.rater for quality in raters if quality.flags}
    kept = [one for one in judged if one.judgment.rater not in in_doubt and one.judgment.judgment_id not in recorded]
    alpha = alpha_with_interval(units_of(answers), draws=draws)
    repeats = repeat_consistency(repeats_of(answers))
    gold = sum(quality.gold for quality in raters)
    return {
        **_counts(judged),
        "all": _ranking(judged, by_arm=by_arm, draws=draws),
        "unflagged": _ranking(kept, by_arm=by_arm, draws=draws) if len(kept) < len(judged) else None,
        "left_out": len(judged) - len(kept),
        "agreement": _rounded(asdict(alpha)) if alpha else None,
        "repeats": _rounded(asdict(repeats)) if repeats else None,
        "gold": {
            "answers": gold,
            "right": sum(quality.gold_right for quality in raters),
            "accuracy": round(sum(quality.gold_right for quality in raters) / gold, _DIGITS) if gold else None,
        },
        "quality": [_quality(quality) for quality in raters],
        "stopping": _stopping(judged, by_arm=by_arm, each=stop_each, margin=stop_margin),
    }


def _ranking(judged: Sequence[Judged], *, by_arm: bool, draws: int) -> dict[str, Any]:
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
        return content | {"refusal": "no answer compares two model versions yet, so there is no ranking"}
    try:
        return content | _ranked(rank(votes, draws=draws))
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
    # Enough to tell raters apart, too little to look one up.
    content["rater"] = quality.rater[:8]
    content["flags"] = [dict(flag) for flag in content["flags"]]
    return content


def _outcomes(judged: Sequence[Judged], *, by_arm: bool) -> list[dict[str, Any]]:
    """Return raw counts of every two models, and the win rate weighted to an even choice of pairs.

    The scheduler prefers pairs whose outcome is open; each vote weighs one over the chance with which its pair was
    chosen (Hájek's estimator), so that the weighted rate is of the pool, not of what was shown.
    """
    cells: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for one in judged:
        first, second = entrants(one, by_arm=by_arm)
        if first == second or one.comparison.role != "plain" or one.outcome == "skip":
            continue
        turned = first > second
        key = (second, first) if turned else (first, second)
        outcome = {"first": "second", "second": "first"}.get(one.outcome, one.outcome) if turned else one.outcome
        cells[key].append((outcome, 1 / one.comparison.propensity if one.comparison.propensity > 0 else 0.0))
    return [_cell(first, second, seen) for (first, second), seen in sorted(cells.items())]


def _cell(first: str, second: str, seen: Sequence[tuple[str, float]]) -> dict[str, Any]:
    counts = Counter(outcome for outcome, _ in seen)
    scored = [(_SCORES[outcome], weight) for outcome, weight in seen if outcome in _SCORES]
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


def _stopping(judged: Sequence[Judged], *, by_arm: bool, each: int, margin: float) -> list[dict[str, Any]]:
    """Return for every two models whether the study may stop asking about them, safe to look at any time.

    The error of 5 % is shared out over the pairs of models.
    """
    scores: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for one in judged:
        if not is_vote(one, by_arm=by_arm):
            continue
        vote = vote_of(one, by_arm=by_arm)
        score = (1.0, 0.0, 0.5)[vote.outcome]
        key, value = (
            ((vote.first, vote.second), score) if vote.first < vote.second else ((vote.second, vote.first), 1 - score)
        )
        scores[key].append((vote.rater, value))
    rows = []
    for (first, second), given in sorted(scores.items()):
        means = rater_means(given, each=each)
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
