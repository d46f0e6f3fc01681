"""Report the loop's results as a table, a plot and JSON; each is labelled as simulated."""

from __future__ import annotations

import json
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
    ranking, reward, dpo = results["ranking"], results["reward"], results["dpo"]
    held_out, ceiling = reward["held_out"], reward["quality"]["human_ceiling"]
    alone, nuisances = ranking["spearman_alone"], reward["quality"].get("nuisances", {})
    champion = results["gate"]["measured"]
    lines = [
        "# One run of the feedback loop with a simulated listener",
        "",
        SIMULATED,
        "",
        f"{results['pool']['fills']} fills of {options.pieces} gaps, {results['pool']['pairs']} pairs, "
        f"{results['judged']['judgments']} judgments over HTTP by {options.raters} simulated raters "
        f"(seed {options.seed}; hidden taste: {options.taste}).",
        "",
        "| claim | holds | measured |",
        "|---|---|---|",
        *(
            f"| {claim} | {'yes' if held else '**no**'} | {numbers} |"
            for claim, held, numbers in summary(options, results)
        ),
        "",
        "![Reward against utility, utilities, reliability](report.svg)",
        "",
        "## Hidden utility on fresh gaps",
        "",
        f"Means over {options.utility_gaps} gaps of pieces that no model was fitted to, with 95 % intervals over gaps.",
        "",
        f"| | n = 1 | best of {options.best_of} by reward | best of {options.best_of} by utility | notes a fill |",
        "|---|---|---|---|---|",
        *(_utility_row(name, results[key]) for name, key in (("before", "before"), ("after DPO", "after"))),
        "",
        f"Gain of best of {options.best_of} by DPO: "
        f"{_gain_text(_gain(results['after']['best'], results['before']['best']))}.",
        "",
        "## Likelihood, validity, diversity, before and after",
        "",
        "| model | nats a token of the original notes | valid | s a fill | distance between fills | repeated |",
        "|---|---|---|---|---|---|",
        *(
            _measured_row(name, champion[version])
            for name, version in (
                ("before", results["base"]),
                ("after DPO", dpo["version"]),
                ("worse on purpose", results["worse"]["version"]),
            )
        ),
        "",
        f"DPO: label smoothing {dpo['smoothing']:.3f} from measured disagreement, divergence from the reference "
        f"{_number(dpo['kl_nats_a_fill'])} nats a fill, {dpo['held_out']['accuracy']:.3f} of held-out pairs correct.",
        "",
        "## The reward model",
        "",
        "| | |",
        "|---|---|",
        f"| held-out accuracy | {held_out['accuracy']:.3f} "
        f"(95 %: {held_out['interval'][0]:.3f} to {held_out['interval'][1]:.3f}), "
        f"of {held_out['decided']} decided |",
        f"| accuracy of the hidden utility itself | {ranking['best_possible_accuracy']:.3f} |",
        f"| raters agree | {ceiling['agreement']:.3f} of {ceiling['pairs']} pairs judged twice; "
        f"the more frequent choice has accuracy {ceiling['accuracy']:.3f} |",
        f"| log-loss, calibration error | {held_out['log_loss']:.3f}, {held_out['calibration_error']:.3f} |",
        *(
            f"| accuracy where the margin is {part} | {row['accuracy']:.3f} of {row['comparisons']} |"
            for part, row in zip(
                ("smallest", "small", "large", "largest"), reward["quality"]["accuracy_by_margin"], strict=False
            )
        ),
        f"| ρ by trunk alone, by musical measures alone | {alone['trunk_alone']:.3f}, {alone['music_alone']:.3f} |",
    ]
    if nuisances:
        lines.append(
            f"| nuisances (note count, density, range, velocity) | R² {nuisances['r_squared']:.3f} of the margin, "
            f"accuracy of these alone {nuisances['accuracy_alone']:.3f} |"
        )
    lines += ["", "## The promotion gate", "", *_gate_lines(results["gate"])]
    return "\n".join(lines)


def _gate_lines(gate: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name in ("worse", "dpo"):
        decision = gate[name]
        lines += [
            f"**{decision['version']}** ({name}): {'promoted' if decision['promoted'] else 'refused'}, recorded as "
            f"promotion {decision['promotion_id']}.",
            "",
        ]
        lines += [
            f"- {'passed' if c['passed'] else 'failed'}: {c['name']}: {c['sentence']}" for c in decision["checks"]
        ]
        lines.append("")
    return lines


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


def _utility_row(name: str, utilities: dict[str, Any]) -> str:
    cells = [mean_and_interval(utilities[key]) for key in ("single", "best", "oracle")]
    text = " | ".join(f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in cells)
    return f"| {name} | {text} | {mean_and_interval(utilities['notes'])[0]:.1f} |"


def _measured_row(name: str, measured: dict[str, Any]) -> str:
    return (
        f"| {name} | {measured['nats']:.3f} | {measured['valid']:.3f} | {measured['seconds']:.2f} | "
        f"{measured['diversity']:.3f} | {measured['repeated']:.3f} |"
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
