"""`harmonixr feedback`: run studies; move, report, export, erase and back up judgments.

Each group of actions is a module beside this one, imported only when it is called.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from harmonixr_platform.cli.arguments import positive

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

# The module of each action.
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
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_study(actions.add_parser("study", help="check, begin, watch and end listening studies"))
    pool = actions.add_parser("pool", help="make pairs of fills of gaps in songs, for blind listening")
    pool.add_argument("songs", nargs="*", type=Path, metavar="SONG", help="MIDI files or folders (default: examples)")
    pool.add_argument("--name", default="default", help="the pool (default: default)")
    pool.add_argument("--pairs", type=positive, default=20, help="how many pairs (default: 20)")
    pool.add_argument("--seed", type=int, default=0, help="the same seed makes the same pairs")
    pool.add_argument("--models", default="", help="versions or aliases, with commas (default: champion, challenger)")
    actions.add_parser("move", help="move recorded judgments to the object store now")
    actions.add_parser("status", help="records that are not yet moved, studies and pools")
    report = actions.add_parser("report", help="counts, wins by model version and a ranking")
    report.add_argument("--study", metavar="NAME", help="judgments of one study or pool (default: all)")
    report.add_argument("--draws", type=int, default=1000, help="bootstrap samples (default: 1000)")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--html", type=Path, metavar="FILE.html", help="write a page in one file")
    report.add_argument("--record-flags", action="store_true", help="store the results of the quality rules as flags")
    export = actions.add_parser("export", help="write a study as Parquet and JSON lines, with manifest and data card")
    export.add_argument("study", nargs="?", metavar="STUDY", help="a study or pool (default: everything)")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder, made where it is missing")
    erase = actions.add_parser("erase", help="erase all data of a rater permanently")
    rater = erase.add_mutually_exclusive_group(required=True)
    rater.add_argument("rater", nargs="?", metavar="RATER", help="the rater's key, which is stored in their browser")
    rater.add_argument("--pseudonym", help="the rater's name in exports")
    rater.add_argument("--again", action="store_true", help="repeat all erasures, after the restoration of a backup")
    _add_copies(actions)
    _add_simulate(actions.add_parser("simulate", help="judge N pairs over HTTP by a formula, as simulated"))


def run(args: argparse.Namespace) -> int:
    """Run the action; return 0, or 1 when it makes nothing."""
    from harmonixr_platform.settings import Settings

    module = importlib.import_module(f"{__name__}.{_MODULES[args.action]}")
    status: int = getattr(module, args.action)(args, Settings())
    return status


def _add_study(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    check = steps.add_parser("check", help="read and describe a definition")
    check.add_argument("file", type=Path, metavar="STUDY.yaml")
    begin = steps.add_parser("begin", help="make all pairs of a study and open it; continues an interrupted start")
    begin.add_argument("file", type=Path, metavar="STUDY.yaml")
    status = steps.add_parser("status", help="the progress of a study, and whether it may stop")
    status.add_argument("name", metavar="STUDY")
    status.add_argument("--stop", action="store_true", help="end the study if its stopping rule allows it")
    close = steps.add_parser("close", help="end a study permanently")
    close.add_argument("name", metavar="STUDY")
    close.add_argument("--reason", default="closed by its operator", help="shown to listeners who come later")


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("count", type=positive, metavar="N", help="how many judgments")
    parser.add_argument("--api", help="the service (default: the address in the settings)")
    parser.add_argument("--pool", default="default", help="the study or pool (default: default)")
    parser.add_argument("--raters", type=positive, default=8, help="how many raters (default: 8)")
    parser.add_argument("--mix", default="", help="raters by kind instead, such as honest=6,always_a=1,random=1,fast=1")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise and the names")


def _add_copies(actions: Any) -> None:
    place = "a folder or s3://bucket/prefix (on the S3 server of the settings)"
    backup = actions.add_parser("backup", help="copy all new feedback to another place")
    backup.add_argument("to", metavar="PLACE", help=place)
    backup.add_argument("--keep", type=positive, metavar="N", help="then remove all backups except the newest N")
    restore = actions.add_parser("restore", help="restore a backup; existing objects stay, erasures are repeated")
    restore.add_argument("source", metavar="PLACE", help=place)
    restore.add_argument("--name", help="the backup (default: the newest)")
    restore.add_argument("--list", action="store_true", help="only list the backups")
    actions.add_parser("replay", help="rebuild a lost Redis from the object store")
