"""Report the loop's results as a table, a plot and JSON; each is labelled as simulated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harmonixr_platform.loop.options import LoopOptions
from harmonixr_platform.loop.plot import Bar, draw
from harmonixr_platform.loop.stage_results import write_whole
from harmonixr_platform.loop.utility import mean_and_interval

SIMULATED = (
    "Every judgment here was made by a simulated listener: this shows that the loop works, not that music improved."
)


def write_report(folder: Path, options: LoopOptions, results: dict[str, Any]) -> None:
    """Write `report.md`, `report.svg` and `results.json` into the folder."""
    write_whole(folder / "results.json", json.dumps({"plan": options.stored(), "simulated": True, **results}, indent=1))
    write_whole(folder / "report.svg", _plot(options, results))
    write_whole(folder / "report.md", report_text(options, results))


def summary(options: LoopOptions, results: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """Return the claims of the loop: the text, whether it holds, and the numbers."""
    ranking, gate = results["ranking"], results["gate"]
    best_gain = _gain(results["before"]["best"], results["before"]["single"])
    dpo_gain = _gain(results["after"]["single"], results["before"]["single"])
    return [
        (
            "the reward model ranks held-out pairs as the hidden utility does (ρ > 0.9)",
            ranking["spearman"] > 0.9,
            f"ρ = {ranking['spearman']:.3f} over {ranking['held_out_pairs']} pairs of "
            f"{ranking['held_out_pieces']} pieces",
        ),
        (f"best-of-{options.best_of} raises the hidden utility", best_gain[1] > 0, _gain_text(best_gain)),
        ("DPO raises it at n = 1", dpo_gain[1] > 0, _gain_text(dpo_gain)),
        ("the promotion gate promotes the better model", gate["dpo"]["promoted"], _decision(gate["dpo"])),
        ("the promotion gate refuses the worse model", not gate["worse"]["promoted"], _decision(gate["worse"])),
    ]


def report_text(options: LoopOptions, results: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    claims = [(claim, "yes" if holds else "**no**", numbers) for claim, holds, numbers in summary(options, results)]
    parts = [
        "# One run of the feedback loop with a simulated listener",
        SIMULATED,
        f"{results['pool']['fills']} fills of {options.pieces} gaps, {results['pool']['pairs']} pairs, "
        f"{results['judged']['judgments']} judgments over HTTP by {options.raters} simulated raters "
        f"(seed {options.seed}; hidden taste: {options.taste}).",
        _table(("claim", "holds", "measured"), claims),
        "![Reward against utility, utilities, reliability](report.svg)",
        *_utility_section(options, results),
        *_metrics_section(results),
        "## The reward model",
        _table(("", ""), _reward_rows(results)),
        "## The promotion gate",
        *(_decision_text(name, results["gate"][name]) for name in ("worse", "dpo")),
    ]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _utility_section(options: LoopOptions, results: dict[str, Any]) -> list[str]:
    best = f"best of {options.best_of}"
    before, after = results["before"], results["after"]
    return [
        "## Hidden utility on fresh gaps",
        f"Means over {options.utility_gaps} gaps of pieces that no model was fitted to, with 95 % intervals over gaps.",
        _table(
            ("", "n = 1", f"{best} by reward", f"{best} by utility", "notes a fill"),
            (_utility_row("before", before), _utility_row("after DPO", after)),
        ),
        f"Gain of {best} by DPO: {_gain_text(_gain(after['best'], before['best']))}.",
    ]


def _utility_row(name: str, utilities: dict[str, Any]) -> list[str]:
    cells = [mean_and_interval(utilities[key]) for key in ("single", "best", "oracle")]
    notes = mean_and_interval(utilities["notes"])[0]
    return [name, *(f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in cells), f"{notes:.1f}"]


def _metrics_section(results: dict[str, Any]) -> list[str]:
    dpo, metrics = results["dpo"], results["gate"]["measured"]
    versions = {"before": results["base"], "after DPO": dpo["version"], "worse model": results["worse"]["version"]}
    keys = ("nats", "valid", "seconds", "diversity", "repeated")
    header = ("model", "nats a token of the original notes", "valid", "s a fill", "distance between fills", "repeated")
    return [
        "## Likelihood, validity, diversity, before and after",
        _table(header, ([name, *(f"{metrics[v][key]:.3f}" for key in keys)] for name, v in versions.items())),
        f"DPO: label smoothing {dpo['smoothing']:.3f} from measured disagreement, divergence from the reference "
        f"{_number(dpo['kl_nats_a_fill'])} nats a fill, {dpo['held_out']['accuracy']:.3f} of held-out pairs correct.",
    ]


def _reward_rows(results: dict[str, Any]) -> Iterator[tuple[str, str]]:
    ranking, held_out, quality = results["ranking"], results["reward"]["held_out"], results["reward"]["quality"]
    ceiling, (low, high), alone = quality["human_ceiling"], held_out["interval"], ranking["spearman_alone"]
    accuracy = f"{held_out['accuracy']:.3f} (95 %: {low:.3f} to {high:.3f}), of {held_out['decided']} decided"
    yield "held-out accuracy", accuracy
    yield "accuracy of the hidden utility itself", f"{ranking['best_possible_accuracy']:.3f}"
    yield (
        "raters agree",
        f"{ceiling['agreement']:.3f} of {ceiling['pairs']} pairs judged twice; "
        f"the more frequent choice has accuracy {ceiling['accuracy']:.3f}",
    )
    yield "log-loss, calibration error", f"{held_out['log_loss']:.3f}, {held_out['calibration_error']:.3f}"
    sizes = ("smallest", "small", "large", "largest")
    for size, row in zip(sizes, quality["accuracy_by_margin"], strict=False):
        yield f"accuracy where the margin is {size}", f"{row['accuracy']:.3f} of {row['comparisons']}"
    trunk, music = alone["trunk_alone"], alone["music_alone"]
    yield "ρ by trunk alone, by musical measures alone", f"{trunk:.3f}, {music:.3f}"
    if nuisances := quality.get("nuisances"):
        yield (
            "nuisances (note count, density, range, velocity)",
            f"R² {nuisances['r_squared']:.3f} of the margin, accuracy alone {nuisances['accuracy_alone']:.3f}",
        )


def _decision_text(name: str, decision: dict[str, Any]) -> str:
    outcome = "promoted" if decision["promoted"] else "refused"
    checks = (f"- {'passed' if c['passed'] else 'failed'}: {c['name']}: {c['sentence']}" for c in decision["checks"])
    title = f"**{decision['version']}** ({name}): {outcome}, recorded as promotion {decision['promotion_id']}."
    return "\n".join([title, "", *checks])


def _plot(options: LoopOptions, results: dict[str, Any]) -> str:
    before, after = results["before"], results["after"]
    groups = (
        ("base\nn = 1", before["single"]),
        (f"base\nbest of {options.best_of}", before["best"]),
        ("DPO\nn = 1", after["single"]),
        (f"DPO\nbest of {options.best_of}", after["best"]),
    )
    return draw(
        title="The feedback loop with a SIMULATED listener",
        scatter=[(u, r) for u, r in results["ranking"]["scatter"]],
        rho=results["ranking"]["spearman"],
        bars=[Bar(label, *mean_and_interval(values)) for label, values in groups],
        reliability=[
            (row["said"], row["right"], row["comparisons"]) for row in results["reward"]["quality"]["reliability"]
        ],
    )


def _gain(new: list[float], old: list[float]) -> tuple[float, float, float]:
    """Return the mean gain, gap by gap, and its 95 % interval."""
    return mean_and_interval([a - b for a, b in zip(new, old, strict=True)])


def _gain_text(gain: tuple[float, float, float]) -> str:
    mean, low, high = gain
    return f"{mean:+.3f} (95 %: {low:+.3f} to {high:+.3f})"


def _decision(decision: dict[str, Any]) -> str:
    won = decision["evidence"]["win_rate"]
    return f"chosen {_number(won['rate'])} of {won['judgments']} times, lower bound {_number(won['low'])}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
