"""`harmonixr feedback simulate`: listeners made of formulas."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from harmonixr_platform.cli.progress import progress_bar

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings


def simulate(args: argparse.Namespace, settings: Settings) -> int:
    """Judge over HTTP; return 1 when the study wanted nothing of these listeners."""
    from harmonixr_platform.feedback.studies import simulated_raters as simulated

    api = args.api or f"http://{settings.host}:{settings.api_port}"
    choices: Counter[str] = Counter()
    with progress_bar("judging", args.count, "judgment") as bar:
        for answer in simulated.simulate(
            api,
            args.count,
            pool=args.pool,
            raters=args.raters,
            seed=args.seed,
            mix=simulated.read_mix(args.mix) if args.mix else None,
        ):
            choices[answer.choice.value] += 1
            bar.update()
    told = ", ".join(f"{count} {choice}" for choice, count in sorted(choices.items()))
    print(f"{choices.total()} simulated judgments stored: {told or 'the study asks no more of these listeners'}")
    return 0 if choices else 1
