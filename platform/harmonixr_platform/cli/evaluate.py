"""`harmonixr evaluate`: measure a model and baselines on held-out music."""

from __future__ import annotations

import argparse
from pathlib import Path

from harmonixr_platform.cli.arguments import add_model

EPILOG = """
examples:
  harmonixr evaluate --corpus corpus --out reports/shipped
  harmonixr evaluate --corpus corpus --model champion --items 110 --out reports/champion
  harmonixr evaluate --corpus corpus --model runs/nano/model.safetensors --shapes track-4 all-1 --out reports/nano
  harmonixr evaluate --corpus corpus --shapes track-4 --least-tracks 4 --by source role --out reports/bands
  harmonixr evaluate --corpus corpus --samples 4 --greedy --reward reward.safetensors --out reports/decoding
Shapes: track-1, -2, -4, -8 and all-1, -2, -4 (bars of one track or of all), sub-bar, band, half-locked, continuation,
whole-track (eight bars of a track that is nowhere in the context), scattered (single cells in four bars), phrase (found
by self-similarity), and pitch-only, rhythm-only, velocity-only, duration-only (one field of two bars' notes, reported
separately). With several samples the report has their diversity, and the best sample by likelihood and by reward.
The same corpus, split, shapes, items and seed give the same gaps for every model. Each reading of the test split is
recorded in DIR/test_readings.log, because a split that is read often is no longer held out.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from harmonixr_model.engine.engine import temperature_text

    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="made by `harmonixr ingest`")
    add_model(parser)
    parser.add_argument("--split", choices=("valid", "test"), default="valid", help="default: valid")
    parser.add_argument("--items", type=int, default=90, metavar="N", help="gaps (default: 90, five of each shape)")
    parser.add_argument(
        "--samples", type=int, default=1, metavar="N", help="fills a gap; 0: only bits a note (default: 1)"
    )
    parser.add_argument("--shapes", nargs="+", default=[], metavar="SHAPE", help="kinds of gap (default: all)")
    parser.add_argument("--sources", nargs="+", default=[], metavar="NAME", help="collections (default: all)")
    parser.add_argument(
        "--least-tracks",
        type=int,
        default=1,
        metavar="N",
        help="pieces with at least N playing tracks (default: 1)",
    )
    parser.add_argument("--by", nargs="+", default=[], choices=("source", "role"), help="additional tables")
    parser.add_argument("--greedy", action="store_true", help="also fill with the most likely tokens")
    parser.add_argument("--reward", type=Path, metavar="FILE", help="a reward model that chooses the best sample")
    parser.add_argument("--seed", type=int, default=0, help="of the gaps (default: 0)")
    parser.add_argument("--temperature", type=float, metavar="T", help=f"0: greedy (default: {temperature_text(None)})")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="the K most likely tokens (default: all)")
    parser.add_argument("--top-p", type=float, default=0.98, metavar="P", help="nucleus sampling (default: 0.98)")
    parser.add_argument(
        "--training",
        type=int,
        default=800,
        metavar="N",
        help="training pieces for the retrieval baseline and the search for copies; 0: neither (default: %(default)s)",
    )
    parser.add_argument("--passages", type=int, default=2, choices=range(3), help="passages in a prompt (default: 2)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for report.html, .md and .json")


def run(args: argparse.Namespace) -> int:
    """Evaluate; print the tables; return 0."""
    from harmonixr_model.evaluation.gallery import to_html
    from harmonixr_platform.cli.evaluation import EvaluateError, measure, write_report

    if args.items < 1 or min(args.samples, args.seed, args.training) < 0:
        raise EvaluateError("give at least 1 item, and no negative number of samples, training pieces or seed")
    if args.reward is not None and args.samples < 2:
        raise EvaluateError("a reward model chooses among samples; give --samples 2 or more")
    if args.out.exists() and not args.out.is_dir():
        raise EvaluateError(f"{args.out} is a file; give a folder for the report")
    report = measure(args)
    write_report(report, args.out, by=args.by)
    (args.out / "report.html").write_text(to_html(report), encoding="utf-8")
    print(f"report: {args.out}/report.md, report.json, and report.html with pictures and sound")
    return 0
