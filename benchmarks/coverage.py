"""Coverage of 95 % intervals by method and number of raters, on simulated panels whose true strengths are known.

    python benchmarks/coverage.py --trials 600 --plot docs/images/coverage.svg

Three models with distances of 0.5 log odds. Each rater gives 40 votes, has a taste (standard deviation 0.6) and a bias
towards side a (mean 0.2, standard deviation 0.3). The true strengths are those fitted to a very large panel: strengths
of the population, which varied tastes shrink, and not of the average rater. With `--taste 0 --side-spread 0` all raters
are equal and every method should reach its nominal coverage.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harmonixr_platform.feedback.statistics.fit import fit
from harmonixr_platform.feedback.statistics.intervals import METHODS, intervals
from harmonixr_platform.feedback.statistics.panel import Panel, sample_votes
from harmonixr_platform.feedback.statistics.votes import Floats, design

RATERS = (3, 5, 8, 12, 20, 40)
_TRUTH_RATERS = 20_000
_COLOURS = {"jackknife": "#1b7f5c", "sandwich": "#3a6ea5", "rater_bootstrap": "#b07aa1", "iid_bootstrap": "#c44536"}
# The first two almost coincide.
_DASHES = dict.fromkeys(METHODS, "") | {"sandwich": ' stroke-dasharray="6 8"'}
_WIDTH, _HEIGHT, _MARGIN = 640, 360, 56

Cell = tuple[float, float]


def main() -> None:
    """Print the table, and plot it with --plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=600, help="panels for each number of raters")
    parser.add_argument("--each", type=int, default=40, help="votes of each rater")
    parser.add_argument(
        "--uneven",
        action="store_true",
        help="the number of votes varies: a quarter of --each, --each or four times --each",
    )
    parser.add_argument(
        "--taste", type=float, default=0.6, help="standard deviation of the raters' tastes, in log odds"
    )
    parser.add_argument(
        "--side-spread", type=float, default=0.3, help="standard deviation of the raters' bias towards a side"
    )
    parser.add_argument("--draws", type=int, default=200, help="bootstrap resamples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="write the plot to this SVG file")
    args = parser.parse_args()
    panel = Panel({"a": 0.5, "b": 0.0, "c": -0.5}, taste=args.taste, side=0.2, side_spread=args.side_spread)
    rng = np.random.default_rng(args.seed)
    each = (args.each // 4, args.each, 4 * args.each) if args.uneven else (args.each,)
    truth = _strengths(panel, raters=_TRUTH_RATERS, each=each, rng=rng)
    print(f"true strengths: {np.round(truth, 3)}; {args.trials} panels per row, votes per rater: {each}\n")
    print("| raters | " + " | ".join(f"{method} coverage (width)" for method in METHODS) + " |")
    print("|---:|" + "---:|" * len(METHODS))
    table: list[list[Cell]] = []
    for raters in RATERS:
        table.append(_row(panel, truth, raters=raters, each=each, trials=args.trials, draws=args.draws, rng=rng))
        print(f"| {raters} | " + " | ".join(f"{c:.1%} ({w:.2f})" for c, w in table[-1]) + " |", flush=True)
    if args.plot:
        args.plot.write_text(draw(table), encoding="utf-8")
        print(f"\nwrote {args.plot}")


def _strengths(panel: Panel, *, raters: int, each: Sequence[int], rng: np.random.Generator) -> Floats:
    # In parts, so that the votes of twenty thousand raters are never in memory at the same time.
    found = []
    for _ in range(10):
        table = design(sample_votes(panel, raters=raters // 10, each=rng.choice(each, raters // 10).tolist(), rng=rng))
        found.append(table.strengths_MP @ fit(table).value_DP[0])
    mean: Floats = np.mean(found, axis=0)
    return mean


def _row(
    panel: Panel, truth: Floats, *, raters: int, each: Sequence[int], trials: int, draws: int, rng: np.random.Generator
) -> list[Cell]:
    """Return the coverage of the three strengths and the mean width of their intervals, by method."""
    covered = np.zeros(len(METHODS))
    width = np.zeros(len(METHODS))
    for trial in range(trials):
        table = design(sample_votes(panel, raters=raters, each=rng.choice(each, raters).tolist(), rng=rng))
        found = fit(table)
        for m, method in enumerate(METHODS):
            at = intervals(table, found, table.strengths_MP, method=method, resamples=draws, seed=trial)
            assert at is not None
            covered[m] += np.mean((at.low_K <= truth) & (truth <= at.high_K))
            width[m] += np.mean(at.high_K - at.low_K)
    return list(zip(covered / trials, width / trials, strict=True))


def draw(table: Sequence[Sequence[Cell]]) -> str:
    """Return the coverage by number of raters as SVG, with a line at the nominal 95 %."""

    def x(i: int) -> float:
        return _MARGIN + i * (_WIDTH - 2 * _MARGIN - 90) / (len(RATERS) - 1)

    def y(coverage: float) -> float:
        return _HEIGHT - _MARGIN - (coverage - 0.3) / 0.7 * (_HEIGHT - 2 * _MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{_MARGIN}" y="24" font-size="14">Coverage of nominal 95 % intervals (simulated panels)</text>',
    ]
    for level in (0.4, 0.6, 0.8, 0.95):
        dashes = ' stroke-dasharray="5 4"' if level == 0.95 else ""
        shade = "#444" if level == 0.95 else "#ddd"
        parts.append(
            f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN - 90}" y1="{y(level):.1f}" y2="{y(level):.1f}" '
            f'stroke="{shade}"{dashes}/><text x="{_MARGIN - 8}" y="{y(level) + 4:.1f}" text-anchor="end">{level:.0%}'
            "</text>"
        )
    for i, raters in enumerate(RATERS):
        parts.append(f'<text x="{x(i):.1f}" y="{_HEIGHT - _MARGIN + 20}" text-anchor="middle">{raters}</text>')
    parts.append(f'<text x="{_MARGIN}" y="{_HEIGHT - 14}">raters</text>')
    for m, method in enumerate(METHODS):
        points = " ".join(f"{x(i):.1f},{y(row[m][0]):.1f}" for i, row in enumerate(table))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{_COLOURS[method]}" stroke-width="2"{_DASHES[method]}/>'
        )
        parts.append(
            f'<text x="{_WIDTH - 130}" y="{_HEIGHT - 150 + 20 * m}" fill="{_COLOURS[method]}">'
            f"{method.replace('_', ' ')}</text>"
        )
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    main()
