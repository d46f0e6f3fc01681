"""`harmonixr doctor`: check this machine, its stores and its settings, one line each, with what would help."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harmonixr_model.errors import HarmonixrError

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings

EPILOG = """
Each line is ok, warn (works, but could be better) or fail; exit status 1 when something fails. Starts the embedded
Redis for a moment when none runs, and writes and deletes one probe object.
"""
Mark = Literal["ok", "warn", "fail"]
_MIN_PYTHON, _TOO_NEW = (3, 11), (3, 14)
_MIN_FREE_BYTES = 2 * 2**30
_MIN_MEMORY_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `what` also says what would help."""

    mark: Mark
    name: str
    what: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--config", type=Path, metavar="YAML", help="serve config to check (the checkout's)")
    parser.add_argument("--state-dir", type=Path, help="where everything is kept (HARMONIXR_STATE_DIR, or var/)")


def run(args: argparse.Namespace) -> int:
    """Check everything; return 1 when something fails."""
    from harmonixr_platform.settings import Settings, SettingsError

    findings = [*machine()]
    try:
        settings = Settings(**({"state_dir": args.state_dir} if args.state_dir else {}))
    except SettingsError as error:
        findings.append(Finding("fail", "settings", str(error)))
    else:
        findings.append(Finding("ok", "settings", f"state is kept in {settings.state_dir}"))
        for check in (ports, disk, object_store, redis, weights, registered):
            findings += guarded(check, settings)
    findings += serve_config(args.config)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.mark:<4}  {finding.name:<{width}}  {finding.what}")
    return int(any(finding.mark == "fail" for finding in findings))


def guarded(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """Run a check; an error of ours becomes its finding."""
    try:
        yield from check(settings)
    except (HarmonixrError, OSError) as error:
        yield Finding("fail", check.__name__.replace("_", " "), str(error))


def machine() -> Iterator[Finding]:
    """Check Python, packages, processors, memory and compiler."""
    version = sys.version_info[:2]
    is_known = _MIN_PYTHON <= version < _TOO_NEW
    advice = "" if is_known else "; use 3.11, 3.12 or 3.13"
    yield Finding("ok" if is_known else "fail", "python", platform.python_version() + advice)
    for package in ("torch", "ray", "gradio", "redis", "symusic"):
        try:
            yield Finding("ok", package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("fail", package, "not installed; `make demo` installs everything")
    yield from _processors()
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    found = f"{compiler}, so torch.compile may be used" if compiler else "none: models run eagerly, which is slower"
    yield Finding("ok" if compiler else "warn", "C++ compiler", found)


def _processors() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    advice = "" if cores > 1 else "; two or more are better, since stages and training share them"
    yield Finding("ok" if cores > 1 else "warn", "CPU", f"{cores} cores{advice}")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        is_enough = total >= _MIN_MEMORY_BYTES
        advice = "" if is_enough else "; the whole service wants 4 GiB"
        yield Finding("ok" if is_enough else "warn", "memory", f"{total / 2**30:.0f} GiB{advice}")
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        yield Finding("ok", "GPU", torch.cuda.get_device_name(0))
    else:
        yield Finding("ok", "GPU", "none; the CPU does everything, and training is slow")


def ports(settings: Settings) -> Iterator[Finding]:
    """Check that the ports of the API and the page are free."""
    from harmonixr_platform.serving.deploy.local_ray import free_port

    for name, port in (("port of the API", settings.api_port), ("port of the page", settings.ui_port)):
        is_free = free_port(port, host=settings.host) == port
        what = f"{port} is free" if is_free else f"{port} is in use: `harmonixr up` takes the next free one"
        yield Finding("ok" if is_free else "warn", name, what)


def disk(settings: Settings) -> Iterator[Finding]:
    """Check that state_dir can be written and has room."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    if not os.access(settings.state_dir, os.W_OK):
        yield Finding(
            "fail", "disk", f"{settings.state_dir} cannot be written; set HARMONIXR_STATE_DIR to another folder"
        )
        return
    free = shutil.disk_usage(settings.state_dir).free
    is_enough = free >= _MIN_FREE_BYTES
    advice = "" if is_enough else "; make room: judgments cannot be stored on a full disk"
    yield Finding("ok" if is_enough else "warn", "disk", f"{free / 2**30:.0f} GiB free{advice}")


def object_store(settings: Settings) -> Iterator[Finding]:
    """Check that the object store answers and keeps conditional writes."""
    from harmonixr_platform.stores.connect import open_object_store
    from harmonixr_platform.stores.objects import probe_conditions

    probe_conditions(open_object_store(settings))
    yield Finding("ok", "object store", f"{settings.objects_url} answers and keeps conditional writes")


def redis(settings: Settings) -> Iterator[Finding]:
    """Check that Redis answers and loses nothing."""
    from harmonixr_platform.stores.connect import open_stream

    stream = open_stream(settings)
    try:
        faults = stream.durability_faults()
    finally:
        stream.close()
    where = "the given server" if settings.redis_url else "the embedded server"
    if not faults:
        yield Finding("ok", "redis", f"{where} answers, fsyncs every write and evicts nothing")
    for fault in faults:
        yield Finding("warn" if "does not show" in fault else "fail", "redis", fault)


def weights(settings: Settings) -> Iterator[Finding]:
    """Check that the shipped weights are there and speak this version's vocabulary."""
    from harmonixr_model.fill.infiller import shipped_weights
    from harmonixr_model.infill.checkpoint import read_info
    from harmonixr_model.notes.vocabulary import VOCAB

    path = shipped_weights()
    if not path.is_file():
        yield Finding("fail", "shipped weights", f"{path} is missing; install the package again")
        return
    config, _ = read_info(path)
    size = path.stat().st_size / 2**20
    yield Finding("ok", "shipped weights", f"width {config.width}, {size:.1f} MiB, vocabulary {VOCAB.hash}")


def registered(settings: Settings) -> Iterator[Finding]:
    """Say which models are in service."""
    from harmonixr_platform.registry import open_registry

    registry = open_registry(settings)
    for name, missing in (
        ("infill", "none yet: the service takes the shipped weights"),
        ("reward", "none yet: best_of is refused until one is trained and promoted"),
    ):
        alias = registry.alias(name, "champion")
        yield Finding("ok", f"{name} model", f"champion is {alias.version}" if alias else missing)


def serve_config(path: Path | None) -> Iterator[Finding]:
    """Check serve_config.yaml for misspelt keys."""
    from harmonixr_platform.cli.up import default_config
    from harmonixr_platform.serving.deploy.config_lint import lint_serve_config

    path = path or default_config()
    faults = lint_serve_config(path)
    if not faults:
        yield Finding("ok", "serve config", f"{path.name}: every key is known")
    for fault in faults:
        yield Finding("fail", "serve config", fault)
