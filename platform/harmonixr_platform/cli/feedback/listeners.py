"""`harmonixr feedback simulate`: judge pairs by formulas instead of listeners."""

from __future__ import annotations

import argparse
from collections import Counter

from harmonixr_platform.cli.progress import progress_bar
from harmonixr_platform.feedback.studies import simulated_raters
from harmonixr_platform.settings import Settings


def simulate(args: argparse.Namespace, settings: Settings) -> int:
    """Judge over HTTP; return 1 when the study needs no more judgments of these raters."""
    choices: Counter[str] = Counter()
    with progress_bar("judging", args.count, "judgment") as bar:
        for judgment in simulated_raters.simulate(
            args.api or f"http://{settings.host}:{settings.api_port}",
            args.count,
            pool=args.pool,
            raters=args.raters,
            seed=args.seed,
            mix=simulated_raters.read_mix(args.mix) if args.mix else None,
        ):
            choices[judgment.choice.value] += 1
            bar.update()
    counts = ", ".join(f"{count} {choice}" for choice, count in sorted(choices.items()))
    print(f"{choices.total()} simulated judgments stored: {counts or 'the study needs no more of these raters'}")
    return 0 if choices else 1
