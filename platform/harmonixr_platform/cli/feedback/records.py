"""`harmonixr feedback` move, status, report, export and erase: what becomes of judgments."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harmonixr_platform.cli import feedback_report

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings


def move(_: argparse.Namespace, settings: Settings) -> int:
    """Carry what is recorded to the object store."""
    from harmonixr_platform.feedback.records.mover import Mover

    mover = Mover.open(settings)
    try:
        print(f"moved {mover.run_once()} records to {settings.objects_url}")
    finally:
        mover.close()
    return 0


def status(_: argparse.Namespace, settings: Settings) -> int:
    """Say what waits to be moved, and which studies and pools there are."""
    from harmonixr_platform.feedback.service import FeedbackService

    service = FeedbackService.open(settings)
    try:
        backlog = service.backlog()
        print(f"not yet moved: {backlog.undelivered} new, {backlog.pending} on their way", end="")
        print(f", the oldest {backlog.oldest_age_s:.0f} s old" if backlog.oldest_age_s else "")
        for name in service.studies.names():
            begun, closed = service.studies.need(name), service.studies.closed(name)
            state = f"ended: {closed.reason}" if closed else f"open since {begun.begun:%Y-%m-%d}"
            print(f"study {name}: {len(begun.pairs)} pairs and {len(begun.gold)} gold ones, {state}")
        for name in service.pools.names():
            print(f"pool {name}: {len(service.pools.pair_ids(name))} pairs")
        for fault in service.durability_faults():
            print(f"warning: {fault}")
    finally:
        service.close()
    return 0


def report(args: argparse.Namespace, settings: Settings) -> int:
    """Say what the judgments say."""
    return feedback_report.run(args, settings)


def export(args: argparse.Namespace, settings: Settings) -> int:
    """Write a snapshot of a study, or of everything."""
    from harmonixr_platform.feedback.records.reader import read_feedback
    from harmonixr_platform.feedback.reports.export import export_dataset
    from harmonixr_platform.feedback.studies.store import StudyStore
    from harmonixr_platform.stores.connect import open_object_store

    store = open_object_store(settings)
    begun = StudyStore(store).get(args.study) if args.study else None
    manifest = export_dataset(read_feedback(store), args.out, study=args.study, begun=begun, now=datetime.now(UTC))
    print(
        f"dataset {manifest.dataset_id}: {manifest.counts['judgments']} judgments of {manifest.counts['pairs']} pairs"
    )
    for file in manifest.files:
        print(f"  {args.out / file.name}  {file.bytes} bytes")
    return 0


def erase(args: argparse.Namespace, settings: Settings) -> int:
    """Erase a rater everywhere, or do again what was asked before."""
    from harmonixr_platform.feedback.records.erasure import Eraser

    eraser = Eraser.open(settings)
    try:
        if args.again:
            done = eraser.repeat(now=datetime.now(UTC))
        else:
            rater = args.pseudonym or eraser.pseudonym(args.rater)
            done = eraser.erase(rater, now=datetime.now(UTC))
    finally:
        eraser.close()
    print(
        f"erased: {done['records']} records from {done['segments']} segments, which were rewritten, {done['keys']} "
        f"keys in Redis, {done['pairs']} pairs of the rater's own music"
    )
    print("exports made before this still hold their answers: make them anew and replace the copies you gave away")
    return 0
