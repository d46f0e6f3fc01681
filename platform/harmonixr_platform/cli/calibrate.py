"""`harmonixr calibrate`: fit the copy gate of a trained model."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from harmonixr_model.errors import CorpusError
from harmonixr_platform.cli.progress import progress_bar

EPILOG = """
The copy gate decides how often a fill repeats similar passages of the song. Training jobs fit it at their end; run this
command for other weights, or for another kind of music. The weights do not change: a few dozen numbers are fitted to
gaps of the corpus's training split and stored beside the weights.
  harmonixr calibrate runs/nano/model.safetensors --corpus corpus -o model.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from harmonixr_model.evaluation.fit_copy_gate import GAPS
    from harmonixr_model.prompt.controls import TRAINED

    parser.add_argument("model", type=Path, metavar="MODEL.safetensors", help="a trained checkpoint")
    parser.add_argument("--corpus", type=Path, required=True, help="a folder written by `harmonixr ingest`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the checkpoint to write")
    parser.add_argument("--gaps", type=int, default=GAPS, metavar="N", help="gaps to fit to (default: %(default)s)")
    parser.add_argument(
        "--controls",
        nargs="*",
        choices=TRAINED,
        metavar="NAME",
        help=f"the soft controls that benchmarks/controls.py shows the model to follow: {', '.join(TRAINED)}",
    )
    parser.add_argument("--half", action="store_true", help="write half-precision weights, like the shipped ones")


def run(args: argparse.Namespace) -> int:
    """Fit and write; return 0."""
    import torch

    from harmonixr_model.data.corpus import Corpus
    from harmonixr_model.evaluation.fit_copy_gate import fit_copy_gate
    from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint

    torch.set_num_threads(os.cpu_count() or 1)
    model, info = load_checkpoint(args.model)
    with progress_bar("calibrating", args.gaps, "gap") as bar:
        model.copy_gate = fit_copy_gate(
            model, Corpus.open(args.corpus), gaps=args.gaps, progress=lambda *_: bar.update()
        )
    if model.copy_gate is None:
        raise CorpusError(f"{args.corpus} has too few repetitions to fit a copy gate; give more music, or more --gaps")
    if args.controls is not None:
        info["controls"] = args.controls
    save_checkpoint(args.output, model, info=info, dtype=torch.float16 if args.half else torch.float32)
    print(args.output)
    return 0
