"""The one command, `harmonixr`. Each subcommand lives in the module of its name and is imported only when called."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from harmonixr_model import __version__
from harmonixr_model.errors import HarmonixrError

# A module offers `add_arguments(parser)` and `run(args) -> int`; the text is what `harmonixr --help` prints.
COMMANDS = {
    "up": "start the whole service on this machine: graph, stores and page",
    "infill": "fill a region of a MIDI file, offline, on the shipped weights",
    "encode": "write MIDI files as readable token text",
    "decode": "turn token text back into MIDI files",
    "ingest": "turn folders of MIDI into a training corpus",
    "train": "train what a YAML file describes (infill or reward model)",
    "finetune": "let a model learn from a folder of your own music",
    "calibrate": "fit how far a trained model lets the song's own passages speak",
    "tune": "sweep hyperparameters with Ray Tune",
    "evaluate": "measure a model on held-out music beside baselines",
    "plot": "draw embeddings, what a fill rests on, loss curves and sweeps as SVG",
    "models": "list, register, promote and roll back model versions",
    "feedback": "build pools of pairs, move, export and report judgments",
    "loop": "close the loop once with a simulated listener, and show what came of it",
    "doctor": "check this machine, its stores and its settings",
}

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return its exit status (0 done, 1 failed, 2 bad input, 130 interrupted)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="harmonixr", description="Fill the gap in a piece of MIDI, and learn.")
    parser.add_argument("--version", action="version", version=f"harmonixr {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in argv if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == wanted:
            module = importlib.import_module(f"{__name__}.{name}")
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
