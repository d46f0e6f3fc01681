"""Compare architectures at equal training tokens: bits per note on the same held-out gaps, paired with the default.

    python benchmarks/architectures.py --corpus CORPUS --out RUNS --plot docs/experiments/architectures.svg

Arms run one after another on one thread. An interrupted comparison resumes; results of finished arms are reused, and
`--report-only` reports them without training. Without `--corpus` it does a short trial run on composed songs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from parts.arm_report import plot, tabulate
from parts.arm_runs import Comparison, Plan
from parts.arms import ARMS, DEFAULT, find_arm

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.training.composed_corpus import write_composed_corpus


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--corpus", type=Path, help="a folder written by `harmonixr ingest`")
    add("--composed", type=int, metavar="PIECES", help="number of composed songs, instead of a corpus")
    add("--out", type=Path, help="folder of the runs; without it they are deleted")
    add("--arms", nargs="+", choices=[arm.name for arm in ARMS], help="default: all")
    add("--width", type=int, default=128)
    add("--layers", type=int, default=4)
    add("--heads", type=int, default=2)
    add("--tokens", type=int, default=307_200, help="training tokens of each arm")
    add("--batch-tokens", type=int, default=1024)
    add("--context", type=int, default=512)
    add("--lr", type=float, default=3e-3)
    add("--items", type=int, default=220, help="evaluation items")
    add("--plot", type=Path, metavar="FILE.svg", help="plot the differences from the default")
    add("--report-only", action="store_true", help="report finished arms without training")
    return parser.parse_args()


def main() -> int:
    """Run the arms and print the table."""
    args = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        out = args.out or Path(scratch) / "runs"
        if args.composed:
            args.corpus = write_composed_corpus(out / "corpus", pieces=args.composed, bars=32)
        elif args.corpus is None:
            # Large enough to show that every arm trains, small enough for one minute.
            args.corpus = write_composed_corpus(Path(scratch) / "corpus", pieces=16)
            args.tokens, args.width, args.layers, args.items = min(args.tokens, 16_384), 32, 2, 22
        results = compare(args, out)
    default, *others = results
    print(tabulate(default, others))
    if args.plot is not None:
        args.plot.write_text(plot(default, others))
    return 0


def compare(args: argparse.Namespace, out: Path) -> list[dict[str, object]]:
    """Run the requested arms; return their results, with the default first."""
    plan = Plan.of(args)
    corpus = Corpus.open(args.corpus)
    names = args.arms or [arm.name for arm in ARMS]
    out.mkdir(parents=True, exist_ok=True)
    (out / "plan.json").write_text(json.dumps(plan.identity()))
    comparison = Comparison(plan, corpus, out=out, log=_log)
    results = []
    for name in dict.fromkeys([DEFAULT, *names]):
        made = comparison.run(find_arm(name), trains=not args.report_only)
        results += [made] if made else []
    return results


def _log(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


if __name__ == "__main__":
    raise SystemExit(main())
