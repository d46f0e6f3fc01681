"""`harmonixr tune`: run the sweep a YAML file describes and print its trials, best first."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmonixr_platform.training.tune_job import Trial

EPILOG = """
An interrupted sweep goes on when it is started again under the same name; finished trials are kept.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument(
        "config", type=Path, metavar="CONFIG.yaml", help="a sweep, as platform/configs/tune_infill.yaml"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override")


def run(args: argparse.Namespace) -> int:
    """Sweep; return 0, or 1 when no trial came to a result."""
    from harmonixr_platform.training import tune_job

    trials = tune_job.run(args.config, args.overrides)
    print(table(trials))
    best = trials[0] if trials else None
    if best is None or best.valid_loss is None:
        print("no trial came to a validation")
        return 1
    print("best: " + " ".join(f"--set {key}={_text(value)}" for key, value in best.settings.items()))
    return 0


def table(trials: Sequence[Trial]) -> str:
    """Lay the trials out in columns."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.settings))
    rows = [["steps", "loss", "bits/note", *keys, ""]]
    for trial in trials:
        drawn = [_text(trial.settings.get(key, "")) for key in keys]
        measured = [_text(trial.valid_loss), _text(trial.valid_bits_per_note)]
        rows.append([str(trial.step), *measured, *drawn, "failed" if trial.error else ""])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
