"""`harmonixr feedback` backup, restore and replay: copies of what was judged, and a lost Redis rebuilt."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings

_PLACE = "a folder or s3://bucket/prefix (on the S3 server of the settings)"


def add_arguments(actions: Any) -> None:
    """Declare the three actions."""
    backup = actions.add_parser("backup", help="copy all feedback elsewhere, only what is not there yet")
    backup.add_argument("to", metavar="PLACE", help=_PLACE)
    backup.add_argument("--keep", type=_positive, metavar="N", help="remove all but the newest N backups afterwards")
    restore = actions.add_parser("restore", help="bring a backup back; what is there stays, erasures are repeated")
    restore.add_argument("source", metavar="PLACE", help=_PLACE)
    restore.add_argument("--name", help="which backup (default: the newest)")
    restore.add_argument("--list", action="store_true", help="only say which backups there are")
    actions.add_parser("replay", help="rebuild a lost Redis from what the object store holds")


def backup(args: argparse.Namespace, settings: Settings) -> int:
    """Carry what waits, then copy what is new."""
    from harmonixr_platform.feedback.records.backup import back_up, prune
    from harmonixr_platform.feedback.records.mover import Mover
    from harmonixr_platform.stores.connect import open_object_store, open_store_at

    target = open_store_at(args.to, settings)
    mover = Mover.open(settings)
    try:
        mover.run_once()
    finally:
        mover.close()
    snapshot = back_up(open_object_store(settings), target, now=datetime.now(UTC))
    print(f"backup {snapshot.name}: {len(snapshot.objects)} objects of {settings.objects_url} in {args.to}")
    if args.keep:
        print(f"removed what only older backups held: {prune(target, keep=args.keep)} objects")
    return 0


def restore(args: argparse.Namespace, settings: Settings) -> int:
    """Bring a backup back and repeat every erasure, lest it brings back who asked to go."""
    from harmonixr_platform.feedback.records.backup import restore, snapshots
    from harmonixr_platform.feedback.records.erasure import Eraser
    from harmonixr_platform.stores.connect import open_object_store, open_store_at

    source = open_store_at(args.source, settings)
    if args.list:
        print("\n".join(snapshots(source)) or f"there is no backup in {args.source}")
        return 0
    done = restore(source, open_object_store(settings), name=args.name)
    print(
        f"restored to {settings.objects_url}: {done['written']} objects written, {done['mended']} damaged ones mended, "
        f"{done['kept']} were there, {done['erased']} stay erased"
    )
    eraser = Eraser.open(settings)
    try:
        again = eraser.repeat(now=datetime.now(UTC))
    finally:
        eraser.close()
    if again:
        print(f"erased again: {again['records']} records of raters who had asked for it")
    return 0


def replay(_: argparse.Namespace, settings: Settings) -> int:
    """Rebuild what Redis remembers."""
    from harmonixr_platform.feedback.records.replay import replay
    from harmonixr_platform.stores.connect import open_object_store, open_stream

    stream = open_stream(settings)
    try:
        done = replay(stream, open_object_store(settings), now=datetime.now(UTC))
    finally:
        stream.close()
    kinds = ", ".join(f"{count} {kind}s" for kind, count in sorted(done.items()) if kind != "refused")
    print(f"Redis knows again: {kinds or 'nothing, the store is empty'}")
    if done["refused"]:
        print(f"not taken: {done['refused']} records, of pairs that are gone or raters who were erased")
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number
