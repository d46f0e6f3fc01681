"""`harmonixr feedback` backup, restore and replay: copies of the feedback, and a rebuilt Redis."""

from __future__ import annotations

import argparse
from contextlib import closing
from datetime import UTC, datetime

from harmonixr_platform.feedback.records import backup as backups
from harmonixr_platform.feedback.records import replay as replays
from harmonixr_platform.feedback.records.erasure import Eraser
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store, open_store_at, open_stream


def backup(args: argparse.Namespace, settings: Settings) -> int:
    """Move the waiting records, then copy the new objects."""
    target = open_store_at(args.to, settings)
    with closing(Mover.open(settings)) as mover:
        mover.run_once()
    snapshot = backups.back_up(open_object_store(settings), target, now=datetime.now(UTC))
    print(f"backup {snapshot.name}: {len(snapshot.objects)} objects of {settings.objects_url} in {args.to}")
    if args.keep:
        print(f"removed {backups.prune(target, keep=args.keep)} objects that only older backups had")
    return 0


def restore(args: argparse.Namespace, settings: Settings) -> int:
    """Restore a backup and repeat every erasure, because the backup may contain erased raters."""
    source = open_store_at(args.source, settings)
    if args.list:
        print("\n".join(backups.snapshots(source)) or f"there is no backup in {args.source}")
        return 0
    counts = backups.restore(source, open_object_store(settings), name=args.name)
    print(
        f"restored to {settings.objects_url}: {counts['written']} objects written, {counts['mended']} damaged objects "
        f"repaired, {counts['kept']} already there, {counts['erased']} stay erased"
    )
    with closing(Eraser.open(settings)) as eraser:
        again = eraser.repeat(now=datetime.now(UTC))
    if again:
        print(f"erased again: {again['records']} records of raters who had requested it")
    return 0


def replay(_: argparse.Namespace, settings: Settings) -> int:
    """Rebuild Redis from the object store."""
    with closing(open_stream(settings)) as stream:
        counts = replays.replay(stream, open_object_store(settings), now=datetime.now(UTC))
    kinds = ", ".join(f"{count} {kind}s" for kind, count in sorted(counts.items()) if kind != "refused")
    print(f"restored in Redis: {kinds or 'nothing, the store is empty'}")
    if counts["refused"]:
        print(f"left out: {counts['refused']} records of missing pairs or erased raters")
    return 0
