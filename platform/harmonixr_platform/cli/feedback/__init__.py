"""`harmonixr feedback`: studies and pools of pairs; move, report, export, erase and back up judgments; listeners.

Each group of actions lives in a module beside this one and is imported only when called.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from harmonixr_platform.cli import feedback_report
from harmonixr_platform.cli.feedback import copies

EPILOG = """
examples:
  harmonixr feedback study begin platform/configs/study.yaml
  harmonixr feedback pool --name default SONG.mid FOLDER --pairs 40
  harmonixr feedback simulate 200 --api http://127.0.0.1:8000 --mix honest=6,always_a=1,fast=1
  harmonixr feedback status
  harmonixr feedback report --html report.html
  harmonixr feedback export infill-blind --out exports/infill-blind
  harmonixr feedback erase --pseudonym 4f0c…
  harmonixr feedback backup /mnt/elsewhere/feedback --keep 14
"""

# Which module does what.
_MODULES = {
    "study": "studies",
    "pool": "pools",
    "move": "records",
    "status": "records",
    "report": "records",
    "export": "records",
    "erase": "records",
    "backup": "copies",
    "restore": "copies",
    "replay": "copies",
    "simulate": "listeners",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_study(actions.add_parser("study", help="check, begin, watch and end listening studies"))
    pool = actions.add_parser("pool", help="fill gaps of songs twice and keep the pairs for blind listening")
    pool.add_argument("songs", nargs="*", type=Path, metavar="SONG", help="MIDI files or folders (default: examples)")
    pool.add_argument("--name", default="default", help="the pool (default: default)")
    pool.add_argument("--pairs", type=_positive, default=20, help="how many pairs (default: 20)")
    pool.add_argument("--seed", type=int, default=0, help="the same seed makes the same pairs")
    pool.add_argument("--models", default="", help="versions or aliases, with commas (default: champion, challenger)")
    actions.add_parser("move", help="carry recorded judgments to the object store now")
    actions.add_parser("status", help="what is recorded and not yet moved, and which studies and pools exist")
    report = actions.add_parser("report", help="counts, wins by model version and a ranking")
    feedback_report.add_arguments(report)
    export = actions.add_parser("export", help="write a study as Parquet and JSON lines, with manifest and data card")
    export.add_argument("study", nargs="?", metavar="STUDY", help="a study or pool (default: everything)")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder, made when it is not there")
    erase = actions.add_parser("erase", help="erase a rater for good, everywhere they are stored")
    who = erase.add_mutually_exclusive_group(required=True)
    who.add_argument("rater", nargs="?", metavar="RATER", help="the rater's own key, as their browser keeps it")
    who.add_argument("--pseudonym", help="the name under which an export lists them")
    who.add_argument("--again", action="store_true", help="repeat every erasure, after a backup was restored")
    copies.add_arguments(actions)
    _add_simulate(actions.add_parser("simulate", help="judge N pairs over HTTP by a formula, labelled as simulated"))


def run(args: argparse.Namespace) -> int:
    """Do what the arguments say; return 0, or 1 when nothing could be made."""
    from harmonixr_platform.settings import Settings

    module = importlib.import_module(f"{__name__}.{_MODULES[args.action]}")
    status: int = getattr(module, args.action)(args, Settings())
    return status


def _add_study(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    check = steps.add_parser("check", help="read a definition and say what it asks for")
    check.add_argument("file", type=Path, metavar="STUDY.yaml")
    begin = steps.add_parser("begin", help="make all pairs of a study and open it; goes on where it was cut off")
    begin.add_argument("file", type=Path, metavar="STUDY.yaml")
    status = steps.add_parser("status", help="how far a study is, and whether it may stop")
    status.add_argument("name", metavar="STUDY")
    status.add_argument("--stop", action="store_true", help="end the study when its stopping rule has decided")
    close = steps.add_parser("close", help="end a study for good")
    close.add_argument("name", metavar="STUDY")
    close.add_argument("--reason", default="closed by its operator", help="said to listeners who come later")


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("count", type=_positive, metavar="N", help="how many judgments")
    parser.add_argument("--api", help="the service (default: the address in the settings)")
    parser.add_argument("--pool", default="default", help="the study or pool (default: default)")
    parser.add_argument("--raters", type=_positive, default=8, help="how many raters (default: 8)")
    parser.add_argument("--mix", default="", help="listeners by kind instead, e.g. honest=6,always_a=1,random=1,fast=1")
    parser.add_argument("--seed", type=int, default=0, help="of the listeners' noise and names")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number
