"""`harmonixr loop`: close the loop once with a simulated listener whose taste is known, and show what came of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from harmonixr_model.errors import HarmonixrError

EPILOG = """
Fills gaps in pieces of our own composer, has a simulated listener judge them over the real HTTP API, fits a reward
model, chooses and trains by it, and lets the gate decide. Takes under half an hour on two cores. An interrupted run
goes on where it stopped. Every judgment is labelled as simulated, and so is everything that comes out.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--out", type=Path, default=Path("runs/loop"), help="its one folder (runs/loop)")
    parser.add_argument("--quick", action="store_true", help="a small one that proves nothing but that it runs")
    parser.add_argument(
        "--without-ray", action="store_true", help="HTTP and jobs in this one process: quicker to start, less memory"
    )


def run(args: argparse.Namespace) -> int:
    """Close the loop; return 0 when every claim held, 1 when one did not."""
    from harmonixr_platform.cli.up import default_config
    from harmonixr_platform.loop.options import FULL, QUICK
    from harmonixr_platform.loop.report import SIMULATED, summary
    from harmonixr_platform.loop.run import close_loop

    serve_config = default_config()
    configs = serve_config.parent / "platform" / "configs"
    if not (configs / "train_dpo.yaml").is_file():
        raise HarmonixrError(f"{configs} holds no job files; run this in a checkout")
    plan = QUICK if args.quick else FULL
    results = close_loop(
        args.out.resolve(),
        plan,
        configs=configs,
        serve_config=serve_config,
        say=lambda line: print(line, flush=True),
        with_ray=not args.without_ray,
    )
    print(f"\n{SIMULATED}\n")
    claims = summary(plan, results)
    for claim, held, told in claims:
        print(f"{'held  ' if held else 'FAILED'}  {claim}: {told}")
    print(f"\nreport: {args.out / 'report.md'}")
    return 0 if args.quick or all(held for _, held, _ in claims) else 1
