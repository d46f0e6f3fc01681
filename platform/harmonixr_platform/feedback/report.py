"""What the judgments say so far, as data and as text. Knows nothing of where they are stored."""

from __future__ import annotations

from collections import Counter
from typing import Any

from harmonixr_platform.feedback.leaderboard import standings, votes_of, win_matrix
from harmonixr_platform.feedback.reader import Feedback


def report(feedback: Feedback, *, draws: int = 200) -> dict[str, Any]:
    """Return counts, the win matrix and the standings of models, ready for JSON."""
    votes = votes_of(feedback.judged)
    return {
        "read": dict(sorted(feedback.counts.items())),
        "judgments": len(feedback.judged),
        "simulated": sum(judged.judgment.simulated for judged in feedback.judged),
        "raters": len({judged.judgment.rater for judged in feedback.judged}),
        "pairs": len({judged.pair.pair_id for judged in feedback.judged}),
        "choices": dict(sorted(Counter(judged.judgment.choice.value for judged in feedback.judged).items())),
        "side_a_share": _side_a_share(feedback),
        "wins": win_matrix(votes),
        "models": [
            {
                "model_version": standing.model,
                "votes": standing.votes,
                "strength": round(standing.strength, 4),
                "low": round(standing.low, 4),
                "high": round(standing.high, 4),
            }
            for standing in standings(votes, draws=draws)
        ],
    }


def report_text(content: dict[str, Any]) -> str:
    """Return the report as a person reads it."""
    choices = ", ".join(f"{count} {choice}" for choice, count in content["choices"].items())
    lines = [
        f"{content['judgments']} judgments ({content['simulated']} simulated) by {content['raters']} raters "
        f"on {content['pairs']} pairs{': ' if choices else ''}{choices}"
    ]
    left_out = {
        name: content["read"].get(name, 0) for name in ("retracted", "erased", "revoted", "orphaned", "unreadable")
    }
    if any(left_out.values()):
        lines.append("left out: " + ", ".join(f"{count} {name}" for name, count in left_out.items() if count))
    if content["side_a_share"] is not None:
        lines.append(f"side a was preferred in {content['side_a_share']:.0%} of the decided answers")
    if not content["models"]:
        lines.append("no answer compares two model versions yet, so there is no ranking")
        return "\n".join(lines)
    lines += ["", f"{'model':<16}{'votes':>7}{'strength':>10}   95 % over raters"]
    for model in content["models"]:
        interval = f"{model['low']:+.2f} … {model['high']:+.2f}"
        lines.append(f"{model['model_version'][:15]:<16}{model['votes']:>7}{model['strength']:>+10.2f}   {interval}")
    names = list(content["wins"])
    lines += ["", "wins of row over column (a tie is half)", " " * 16 + "".join(f"{n[:12]:>14}" for n in names)]
    for row in names:
        cells = "".join("             –" if row == c else f"{content['wins'][row][c]:>14.1f}" for c in names)
        lines.append(f"{row[:15]:<16}{cells}")
    return "\n".join(lines)


def _side_a_share(feedback: Feedback) -> float | None:
    decided = [judged.judgment.choice.value for judged in feedback.judged if judged.judgment.choice.value in ("a", "b")]
    return round(decided.count("a") / len(decided), 4) if decided else None
