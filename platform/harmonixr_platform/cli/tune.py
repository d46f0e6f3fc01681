"""`harmonixr tune`: run the sweep of a YAML file and print its trials, the best first."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harmonixr_platform.cli.arguments import add_job_file

if TYPE_CHECKING:
    from harmonixr_platform.training.tune_job import Trial

EPILOG = """
The same command continues an interrupted sweep of the same name; finished trials do not run again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_job_file(parser, example="tune_infill.yaml")


def run(args: argparse.Namespace) -> int:
    """Sweep; return 0, or 1 when no trial has a result."""
    from harmonixr_platform.training import tune_job

    trials = tune_job.run(args.config, args.overrides)
    print(trial_table(trials))
    best = trials[0] if trials else None
    if best is None or best.valid_loss is None:
        print("no trial reached a validation")
        return 1
    print("best: " + " ".join(f"--set {key}={_text(value)}" for key, value in best.settings.items()))
    return 0


def trial_table(trials: Sequence[Trial]) -> str:
    """Return the trials as a table."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.settings))
    rows = [["steps", "loss", "bits/note", *keys, ""]]
    for trial in trials:
        settings = [_text(trial.settings.get(key, "")) for key in keys]
        measured = [_text(trial.valid_loss), _text(trial.valid_bits_per_note)]
        rows.append([str(trial.step), *measured, *settings, "failed" if trial.error else ""])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
