"""False positives of a study with repeated looks at the data, and the time until a real difference is found.

    python benchmarks/peeking.py --studies 1000

Simulated raters of two models give 10 votes each; their tastes vary with a standard deviation in log odds (0: equal
raters). Four tests are compared: the anytime-valid interval over raters' means (used by the report), the same over
single votes, a z test over raters' means, and a z test over single votes. The first look is after the 5th rater.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from harmonixr_platform.feedback.statistics.panel import Panel, sample_votes
from harmonixr_platform.feedback.statistics.stopping import log_capital
from harmonixr_platform.feedback.statistics.votes import Floats

_EACH, _FIRST = 10, 5
_HALF = np.array([0.5])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--raters", type=int, default=60, help="raters of a study that is not stopped")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    print(f"stopped without a difference, {args.studies} studies of {args.raters} raters\n")
    print("| standard deviation of tastes | betting, raters | betting, votes | z test, raters | z test, votes |")
    print("|---:|---:|---:|---:|---:|")
    for taste in (0.0, 0.5, 1.0):
        scores = _scores(Panel({"x": 0.0, "y": 0.0}, taste=taste), args.studies, args.raters, rng)
        means, votes = scores.mean(axis=2), scores.reshape(len(scores), -1)
        shares = (
            _stopped(means).mean(),
            _stopped(votes).mean(),
            _peeked(means, first=_FIRST).mean(),
            _peeked(votes, first=_FIRST * _EACH).mean(),
        )
        print(f"| {taste} | " + " | ".join(f"{share:.1%}" for share in shares) + " |", flush=True)
    print("\nraters until betting over raters' means stops; standard deviation of tastes 0.5\n")
    print("| log odds | win rate | stopped within 60 | median raters |")
    print("|---:|---:|---:|---:|")
    for odds in (0.4, 0.8, 1.2, 1.6):
        scores = _scores(Panel({"x": odds / 2, "y": -odds / 2}, taste=0.5), args.studies // 5, args.raters, rng)
        capital = log_capital(scores.mean(axis=2), _HALF)[:, 0] >= math.log(20)
        stopped = capital.any(axis=1)
        when = np.where(stopped, capital.argmax(axis=1) + 1, np.inf)
        median = np.median(when)
        text = f"{median:.0f}" if np.isfinite(median) else f"over {args.raters}"
        print(f"| {odds} | {scores.mean():.1%} | {stopped.mean():.0%} | {text} |", flush=True)


def _scores(panel: Panel, studies: int, raters: int, rng: np.random.Generator) -> Floats:
    """Return the score of x in each vote, [studies, raters, votes]."""
    votes = sample_votes(panel, raters=studies * raters, each=_EACH, rng=rng)
    scores: Floats = np.array([(1.0, 0.0, 0.5)[vote.outcome] for vote in votes]).reshape(studies, raters, _EACH)
    return scores


def _stopped(values: Floats) -> Floats:
    crossed: Floats = log_capital(values, _HALF)[:, 0].max(axis=1) >= math.log(20)
    return crossed


def _peeked(values: Floats, *, first: int) -> Floats:
    count = np.arange(1, values.shape[1] + 1)
    mean = values.cumsum(axis=1) / count
    variance = (values**2).cumsum(axis=1) / count - mean**2
    error = np.sqrt(np.maximum(variance, 1e-9) / np.maximum(count - 1, 1))
    stopped: Floats = (np.abs(mean - 0.5) / error > 1.96)[:, first - 1 :].any(axis=1)
    return stopped


if __name__ == "__main__":
    main()
