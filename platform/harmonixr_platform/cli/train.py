"""`harmonixr train`: run the training job of a YAML file, on this machine or on the cluster of a submitted job."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from harmonixr_platform.cli.arguments import add_job_file
from harmonixr_platform.cli.progress import progress_bar

if TYPE_CHECKING:
    from harmonixr_model.training.loop import StepMetrics

EPILOG = """
The file's `task` is infill, reward or dpo. Example:
  harmonixr train platform/configs/train_infill.yaml --set corpus=corpus --set optimisation.steps=500
The same command continues an interrupted run of the same name from its last checkpoint.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_job_file(parser, example="train_infill.yaml")


def run(args: argparse.Namespace) -> int:
    """Train; return 0."""
    from harmonixr_platform.training.config import JobError, read_job_file

    task = read_job_file(args.config, args.overrides).get("task")
    if task == "infill":
        return _infill(args)
    if task == "reward":
        from harmonixr_platform.training import reward_job

        reward_job.run(args.config, args.overrides)
        return 0
    if task == "dpo":
        from harmonixr_platform.training import dpo_job

        dpo_job.run(args.config, args.overrides)
        return 0
    raise JobError(f"{args.config}: task {task!r} is unknown; write `task: infill`, `task: reward` or `task: dpo`")


def _infill(args: argparse.Namespace) -> int:
    from harmonixr_platform.training import infill_job

    with training_bar() as show:
        trained = infill_job.run(args.config, args.overrides, on_step=show)
    bits = trained.info["validation_bits_per_note"]
    print(f"model: {trained.model}")
    print(f"validation: {'no notes' if bits is None else f'{bits:.2f} bits a note'}, step {trained.info['best_step']}")
    if trained.version is not None:
        print(f"registered: infill {trained.version.version}")
    return 0


@contextlib.contextmanager
def training_bar() -> Iterator[Callable[[StepMetrics], None]]:
    """Yield a function that shows one step; the text of a validated step stays on the screen."""
    from harmonixr_model.training.report import progress_line

    with progress_bar("preparing") as bar:

        def show(progress: StepMetrics) -> None:
            bar.set_description_str(progress_line(progress), refresh=False)
            if progress.validation is None:
                bar.update()
            else:
                bar.write(progress_line(progress), file=sys.stderr)

        yield show
