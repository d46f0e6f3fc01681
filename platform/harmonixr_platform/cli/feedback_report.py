"""`harmonixr feedback report`: what the judgments say, for the terminal, as JSON or as one HTML page."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmonixr_platform.feedback.records.reader import Feedback
    from harmonixr_platform.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the action's arguments."""
    parser.add_argument("--study", metavar="NAME", help="one study's judgments, or one pool's (default: all)")
    parser.add_argument("--draws", type=int, default=1000, help="draws of the bootstraps (default: 1000)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--html", type=Path, metavar="FILE.html", help="as one page that needs nothing else")
    parser.add_argument("--record-flags", action="store_true", help="keep what the rules say of raters as Flag records")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print or write the report; return 0."""
    from harmonixr_platform.feedback.records.reader import read_feedback
    from harmonixr_platform.feedback.reports.html_report import report_html
    from harmonixr_platform.feedback.reports.report import report
    from harmonixr_platform.feedback.reports.text_report import report_text
    from harmonixr_platform.stores.connect import open_object_store

    feedback = read_feedback(open_object_store(settings))
    content = report(feedback, study=args.study, resamples=max(20, args.draws))
    if args.json:
        print(json.dumps(content, indent=2))
    elif args.html:
        args.html.write_text(report_html(content), encoding="utf-8")
        print(f"wrote {args.html}")
    else:
        print(report_text(content))
    if args.record_flags:
        recorded = _record(feedback, settings)
        if not args.json:
            print(f"recorded {recorded} new flags")
    return 0


def _record(feedback: Feedback, settings: Settings) -> int:
    from harmonixr_platform.feedback.records.judgments import JudgmentLog
    from harmonixr_platform.feedback.reports.flags import flags_of, record_flags
    from harmonixr_platform.stores.connect import open_stream

    stream = open_stream(settings)
    try:
        return record_flags(JudgmentLog(stream), flags_of(feedback, now=datetime.now(UTC)))
    finally:
        stream.close()
