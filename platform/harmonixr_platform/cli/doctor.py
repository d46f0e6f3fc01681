"""`harmonixr doctor`: check this machine, its stores and its settings, and suggest a remedy for each problem."""

from __future__ import annotations

import argparse
import contextlib
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
Each line is ok, warn (it works, but could be better) or fail. The exit status is 1 when a check fails. The command
starts the embedded Redis for a moment when none runs, and writes and deletes one probe object.
"""
Status = Literal["ok", "warn", "fail"]
_MIN_PYTHON, _TOO_NEW = (3, 11), (3, 14)
_MIN_FREE_BYTES = 2 * 2**30
_MIN_MEMORY_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check; `text` includes the remedy."""

    status: Status
    name: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--config", type=Path, metavar="YAML", help="serve config to check (default: the checkout's)")
    parser.add_argument("--state-dir", type=Path, help="state folder (default: HARMONIXR_STATE_DIR, or var/)")


def run(args: argparse.Namespace) -> int:
    """Check everything; return 1 when something fails."""
    from harmonixr_platform.settings import Settings, SettingsError

    results = list(machine())
    try:
        settings = Settings(**({"state_dir": args.state_dir} if args.state_dir else {}))
    except SettingsError as error:
        results.append(CheckResult("fail", "settings", str(error)))
    else:
        results.append(CheckResult("ok", "settings", f"the state folder is {settings.state_dir}"))
        for check in (ports, disk, object_store, redis, weights, registered):
            results += run_check(check, settings)
    results += serve_config(args.config)
    width = max(len(result.name) for result in results)
    for result in results:
        print(f"{result.status:<4}  {result.name:<{width}}  {result.text}")
    return int(any(result.status == "fail" for result in results))


def run_check(check: Callable[[Settings], Iterator[CheckResult]], settings: Settings) -> Iterator[CheckResult]:
    """Run a check; an error is a failed check."""
    try:
        yield from check(settings)
    except (HarmonixrError, OSError) as error:
        yield CheckResult("fail", check.__name__.replace("_", " "), str(error))


def rated(name: str, text: str, *, is_good: bool, remedy: str, otherwise: Status = "warn") -> CheckResult:
    """Return an ok result, or another status with the remedy."""
    return CheckResult("ok", name, text) if is_good else CheckResult(otherwise, name, f"{text}; {remedy}")


def machine() -> Iterator[CheckResult]:
    """Check Python, packages, processors, memory and compiler."""
    is_known = _MIN_PYTHON <= sys.version_info[:2] < _TOO_NEW
    python = platform.python_version()
    yield rated("python", python, is_good=is_known, remedy="use 3.11, 3.12 or 3.13", otherwise="fail")
    for package in ("torch", "ray", "gradio", "redis", "symusic"):
        try:
            yield CheckResult("ok", package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield CheckResult("fail", package, "not installed; `make demo` installs everything")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield rated("CPU", f"{cores} cores", is_good=cores > 1, remedy="two are better: stages and training share them")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        is_enough = memory >= _MIN_MEMORY_BYTES
        yield rated("memory", f"{memory / 2**30:.0f} GiB", is_good=is_enough, remedy="the whole service needs 4 GiB")
    with contextlib.suppress(ImportError):
        import torch

        name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none; training on the CPU is slow"
        yield CheckResult("ok", "GPU", name)
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    remedy = "install one: models run slower without torch.compile"
    yield rated("C++ compiler", compiler or "none", is_good=bool(compiler), remedy=remedy)


def ports(settings: Settings) -> Iterator[CheckResult]:
    """Check that the ports of the API and the page are free."""
    from harmonixr_platform.serving.deploy.local_ray import free_port

    for name, port in (("port of the API", settings.api_port), ("port of the page", settings.ui_port)):
        is_free = free_port(port, host=settings.host) == port
        yield rated(name, str(port), is_good=is_free, remedy="in use, so `harmonixr up` takes another free port")


def disk(settings: Settings) -> Iterator[CheckResult]:
    """Check that the state folder is writable and has free space."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    if not os.access(settings.state_dir, os.W_OK):
        text = f"{settings.state_dir} cannot be written; set HARMONIXR_STATE_DIR to another folder"
        yield CheckResult("fail", "disk", text)
        return
    free = shutil.disk_usage(settings.state_dir).free
    remedy = "make room: judgments cannot be stored on a full disk"
    yield rated("disk", f"{free / 2**30:.0f} GiB free", is_good=free >= _MIN_FREE_BYTES, remedy=remedy)


def object_store(settings: Settings) -> Iterator[CheckResult]:
    """Check that the object store responds and supports conditional writes."""
    from harmonixr_platform.stores.connect import open_object_store
    from harmonixr_platform.stores.objects import probe_conditions

    probe_conditions(open_object_store(settings))
    yield CheckResult("ok", "object store", f"{settings.objects_url} responds and supports conditional writes")


def redis(settings: Settings) -> Iterator[CheckResult]:
    """Check that Redis responds and loses nothing."""
    from harmonixr_platform.stores.connect import open_stream

    with contextlib.closing(open_stream(settings)) as stream:
        faults = stream.durability_faults()
    where = "the given server" if settings.redis_url else "the embedded server"
    if not faults:
        yield CheckResult("ok", "redis", f"{where} responds, fsyncs every write and evicts nothing")
    for fault in faults:
        yield CheckResult("warn" if "does not show" in fault else "fail", "redis", fault)


def weights(settings: Settings) -> Iterator[CheckResult]:
    """Check that the shipped weights exist and have this version's vocabulary."""
    from harmonixr_model.fill.infiller import shipped_weights
    from harmonixr_model.infill.checkpoint import read_info
    from harmonixr_model.notes.vocabulary import VOCAB

    path = shipped_weights()
    if not path.is_file():
        yield CheckResult("fail", "shipped weights", f"{path} is missing; install the package again")
        return
    config, _ = read_info(path)
    size = path.stat().st_size / 2**20
    yield CheckResult("ok", "shipped weights", f"width {config.width}, {size:.1f} MiB, vocabulary {VOCAB.hash}")


def registered(settings: Settings) -> Iterator[CheckResult]:
    """Name the champions of the registry."""
    from harmonixr_platform.registry import open_registry

    registry = open_registry(settings)
    for name, missing in (
        ("infill", "none yet: the service uses the shipped weights"),
        ("reward", "none yet: best_of is refused until one is trained and promoted"),
    ):
        alias = registry.alias(name, "champion")
        yield CheckResult("ok", f"{name} model", f"champion is {alias.version}" if alias else missing)


def serve_config(path: Path | None) -> Iterator[CheckResult]:
    """Check serve_config.yaml for misspelt keys."""
    from harmonixr_platform.cli.up import default_config
    from harmonixr_platform.serving.deploy.config_lint import lint_serve_config

    path = path or default_config()
    faults = lint_serve_config(path)
    if not faults:
        yield CheckResult("ok", "serve config", f"{path.name}: every key is known")
    for fault in faults:
        yield CheckResult("fail", "serve config", fault)
