"""`harmonixr feedback` move, status, report, export and erase: what happens to judgments after they are recorded."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from datetime import UTC, datetime

from harmonixr_platform.feedback.records.erasure import Eraser
from harmonixr_platform.feedback.records.judgments import JudgmentLog
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.reports.export import export_dataset
from harmonixr_platform.feedback.reports.flags import flags_of, record_flags
from harmonixr_platform.feedback.reports.html_report import report_html
from harmonixr_platform.feedback.reports.report import report as make_report
from harmonixr_platform.feedback.reports.text_report import report_text
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.feedback.studies.store import StudyStore
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store, open_stream


def move(_: argparse.Namespace, settings: Settings) -> int:
    """Move the recorded judgments to the object store."""
    with closing(Mover.open(settings)) as mover:
        print(f"moved {mover.run_once()} records to {settings.objects_url}")
    return 0


def status(_: argparse.Namespace, settings: Settings) -> int:
    """Print what is not yet moved, the studies and the pools."""
    with closing(FeedbackService.open(settings)) as service:
        backlog = service.backlog()
        print(f"not yet moved: {backlog.undelivered} new, {backlog.pending} in progress", end="")
        print(f", the oldest {backlog.oldest_age_s:.0f} s old" if backlog.oldest_age_s else "")
        for name in service.studies.names():
            begun, closed = service.studies.need(name), service.studies.closed(name)
            state = f"ended: {closed.reason}" if closed else f"open since {begun.begun:%Y-%m-%d}"
            print(f"study {name}: {len(begun.pairs)} pairs and {len(begun.gold)} gold pairs, {state}")
        for name in service.pools.names():
            print(f"pool {name}: {len(service.pools.pair_ids(name))} pairs")
        for fault in service.durability_faults():
            print(f"warning: {fault}")
    return 0


def report(args: argparse.Namespace, settings: Settings) -> int:
    """Print the report on the judgments, or write it as a page."""
    feedback = read_feedback(open_object_store(settings))
    content = make_report(feedback, study=args.study, resamples=max(20, args.draws))
    if args.json:
        print(json.dumps(content, indent=2))
    elif args.html:
        args.html.write_text(report_html(content), encoding="utf-8")
        print(f"wrote {args.html}")
    else:
        print(report_text(content))
    if args.record_flags:
        with closing(open_stream(settings)) as stream:
            recorded = record_flags(JudgmentLog(stream), flags_of(feedback, now=datetime.now(UTC)))
        if not args.json:
            print(f"recorded {recorded} new flags")
    return 0


def export(args: argparse.Namespace, settings: Settings) -> int:
    """Write a snapshot of one study, or of everything."""
    store = open_object_store(settings)
    begun = StudyStore(store).get(args.study) if args.study else None
    manifest = export_dataset(read_feedback(store), args.out, study=args.study, begun=begun, now=datetime.now(UTC))
    counts = manifest.counts
    print(f"dataset {manifest.dataset_id}: {counts['judgments']} judgments of {counts['pairs']} pairs")
    for file in manifest.files:
        print(f"  {args.out / file.name}  {file.bytes} bytes")
    return 0


def erase(args: argparse.Namespace, settings: Settings) -> int:
    """Erase a rater everywhere, or repeat all earlier erasures."""
    with closing(Eraser.open(settings)) as eraser:
        if args.again:
            erased = eraser.repeat(now=datetime.now(UTC))
        else:
            rater = args.pseudonym or eraser.pseudonym(args.rater)
            erased = eraser.erase(rater, now=datetime.now(UTC))
    print(
        f"erased: {erased['records']} records ({erased['segments']} segments rewritten), {erased['keys']} Redis keys, "
        f"{erased['pairs']} pairs of the rater's own music"
    )
    print("earlier exports still contain these judgments: export again, and replace the copies that you gave away")
    return 0
