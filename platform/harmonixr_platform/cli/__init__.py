"""The command `harmonixr`. Each subcommand is a module of the same name, imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from harmonixr_model import __version__
from harmonixr_model.errors import HarmonixrError

# The text of `harmonixr --help`. A module has `add_arguments(parser)`, `run(args) -> int` and mostly `EPILOG`.
COMMANDS = {
    "up": "start the whole service on this machine: graph, stores and page",
    "infill": "fill a region of a MIDI file offline, with the shipped weights",
    "encode": "write MIDI files as readable token text",
    "decode": "convert token text back to MIDI files",
    "ingest": "build a training corpus from folders of MIDI",
    "train": "run the training job of a YAML file (infill model, reward model or DPO)",
    "finetune": "train a model further on a folder of your own music",
    "calibrate": "fit the copy gate of a trained model, which repeats similar passages of a song",
    "tune": "sweep hyperparameters with Ray Tune",
    "evaluate": "measure a model and baselines on held-out music",
    "plot": "draw embeddings, saliency, loss curves and sweeps as SVG",
    "models": "list, register, promote and roll back model versions",
    "feedback": "run listening studies; move, report, export and back up judgments",
    "loop": "run the whole feedback loop once with a simulated listener",
    "doctor": "check this machine, its stores and its settings",
}

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit status: 0 success, 1 failure, 2 bad input, 130 interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="harmonixr", description="Fill gaps in MIDI files; train models on music and on judgments."
    )
    parser.add_argument("--version", action="version", version=f"harmonixr {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == chosen:
            module = importlib.import_module(f"{__name__}.{name}")
            subparser.epilog = getattr(module, "EPILOG", None)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        status: int = args.run(args)
    except HarmonixrError as error:
        print(f"harmonixr {args.command}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except FileNotFoundError as error:
        print(f"harmonixr {args.command}: {error.filename}: no such file or folder", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print(f"harmonixr {args.command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return status
