"""`harmonixr loop`: run the whole feedback loop once with a simulated listener, and report the result."""

from __future__ import annotations

import argparse
from pathlib import Path

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.cli.progress import progress_bar

EPILOG = """
The loop fills gaps in pieces of the bundled composer, judges the fills over the real HTTP API by a simulated listener
with a known utility, fits a reward model, trains the infill model by DPO, and lets the promotion gate decide. It takes
under half an hour on two cores. An interrupted run continues where it stopped. Every judgment and every result is
labelled as simulated.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--out", type=Path, default=Path("runs/loop"), help="the loop's folder (default: runs/loop)")
    parser.add_argument("--quick", action="store_true", help="a small loop that only shows that everything runs")
    parser.add_argument(
        "--without-ray", action="store_true", help="run HTTP and jobs in this process: a faster start and less memory"
    )


def run(args: argparse.Namespace) -> int:
    """Run the loop; return 0 when every claim holds, else 1."""
    from harmonixr_platform.cli.up import default_config
    from harmonixr_platform.loop.options import FULL, QUICK
    from harmonixr_platform.loop.progress import LoopProgress
    from harmonixr_platform.loop.report import SIMULATED, summary
    from harmonixr_platform.loop.run import run_loop

    serve_config = default_config()
    configs = serve_config.parent / "platform" / "configs"
    if not (configs / "train_dpo.yaml").is_file():
        raise HarmonixrError(f"{configs} holds no job files; run this command in a checkout")
    options = QUICK if args.quick else FULL
    with progress_bar("loop", unit="s") as bar:
        results = run_loop(
            args.out.resolve(),
            options,
            configs=configs,
            serve_config=serve_config,
            progress=LoopProgress(bar),
            with_ray=not args.without_ray,
        )
    print(f"{SIMULATED}\n")
    claims = summary(options, results)
    for claim, holds, numbers in claims:
        print(f"{'holds ' if holds else 'FAILED'}  {claim}: {numbers}")
    print(f"\nreport: {args.out / 'report.md'}")
    return 0 if args.quick or all(holds for _, holds, _ in claims) else 1
