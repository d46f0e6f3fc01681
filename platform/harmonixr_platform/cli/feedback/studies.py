"""`harmonixr feedback study`: check, begin, watch and end a listening study."""

from __future__ import annotations

import argparse
from collections import Counter
from datetime import UTC, datetime

from harmonixr_model.engine.engine import temperature_text
from harmonixr_platform.cli.feedback.pools import fill_model, pieces_of
from harmonixr_platform.cli.progress import progress_bar
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.reports.study_progress import study_progress
from harmonixr_platform.feedback.studies.definition import Study, read_study
from harmonixr_platform.feedback.studies.store import BegunStudy, StudyStore
from harmonixr_platform.feedback.studies.study_pairs import begin_study
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store


def study(args: argparse.Namespace, settings: Settings) -> int:
    """Run a step."""
    steps = {"check": _check, "begin": _begin, "status": _status, "close": _close}
    return steps[args.step](args, settings)


def _check(args: argparse.Namespace, _: Settings) -> int:
    print(_description(read_study(args.file)))
    return 0


def _begin(args: argparse.Namespace, settings: Settings) -> int:
    defined = read_study(args.file)
    pieces = pieces_of(args.file.parent / song for song in defined.contexts.songs)
    models = {name: fill_model(settings, name) for name in {arm.model for arm in defined.arms}}
    steps = begin_study(
        open_object_store(settings),
        defined,
        pieces,
        models={arm.name: models[arm.model] for arm in defined.arms},
        now=datetime.now(UTC),
    )
    skipped = Counter[str]()
    with progress_bar("filling", unit="gap") as bar:
        for step in steps:
            if isinstance(step, BegunStudy):
                begun = step
            else:
                skipped.update([step.result.reason] if step.result.reason else [])
                bar.total = step.total
                bar.update(step.number - bar.n)
    print(
        f"study {defined.version} is open: {len(begun.pairs)} pairs and {len(begun.gold)} gold pairs of "
        f"{len(pieces)} songs, by {', '.join(f'{arm} = {model}' for arm, model in begun.models.items())}"
    )
    for reason, count in skipped.most_common():
        print(f"  {count} gaps without pairs: {reason}")
    return 0


def _status(args: argparse.Namespace, settings: Settings) -> int:
    store = open_object_store(settings)
    studies = StudyStore(store)
    begun = studies.need(args.name)
    progress = study_progress(begun.study, read_feedback(store))
    print(_description(begun.study))
    print(
        f"  {progress.judgments} judgments by {progress.raters} raters have been moved"
        + (f", {progress.simulated} of them simulated" if progress.simulated else "")
    )
    for line in progress.verdicts:
        print(f"  {line}")
    closed = studies.closed(args.name)
    if closed is None and args.stop and progress.reason is not None:
        closed = studies.close(args.name, reason=progress.reason, now=datetime.now(UTC))
    if closed is not None:
        print(f"ended {closed.closed:%Y-%m-%d %H:%M}: {closed.reason}")
    else:
        print(f"it may stop: {progress.reason}" if progress.reason else "it continues")
    return 0


def _close(args: argparse.Namespace, settings: Settings) -> int:
    closed = StudyStore(open_object_store(settings)).close(args.name, reason=args.reason, now=datetime.now(UTC))
    print(f"study {args.name} ended {closed.closed:%Y-%m-%d %H:%M}: {closed.reason}")
    return 0


def _description(defined: Study) -> str:
    arms = ", ".join(
        f"{arm.name} ({arm.model}, temperature {temperature_text(arm.sampling.temperature)})" for arm in defined.arms
    )
    return (
        f"study {defined.version}: {arms}\n"
        f"  at least {defined.quotas.raters_per_pair} raters a pair, {defined.quotas.per_rater} comparisons a rater, "
        f"{defined.repeats.share:.0%} repeats, {defined.gold.share:.0%} gold\n"
        f"  ends after {defined.stopping.most_judgments} judgments, or when an anytime-valid 95% "
        f"interval has decided (margin {defined.stopping.margin:g})"
    )
