"""Compile the C++ sources of this folder, cache the library by the sources' hash, and load it.

A compilation is one call of the compiler and takes a few seconds.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import time
from functools import lru_cache
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-Wno-psabi")
TIMEOUT_S = 120.0
_HERE = Path(__file__).parent
_log = logging.getLogger(__name__)


def load_library(*, may_compile: bool) -> ctypes.CDLL | None:
    """Return the compiled library; None where it is not compiled yet and may not, or cannot, be compiled.

    Later processes find it in `harmonixr` under `XDG_CACHE_HOME` or `~/.cache`.
    """
    library = _load(may_compile)
    if library is None:
        _log.info("PyTorch decodes: %s", _why_none(may_compile))
    return library


@lru_cache(2)
def _load(may_compile: bool) -> ctypes.CDLL | None:
    compiler = find_compiler()
    if compiler is None:
        return None
    path = library_path(compiler)
    if not path.is_file() and not (may_compile and _compile(compiler, path)):
        return None
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        _log.warning("the compiled library cannot be loaded: %s", error)
        return None


def find_compiler() -> str | None:
    """Return the C++ compiler: `CXX`, or g++ or clang++ on the path; None without one."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    return next((found for name in names if (found := shutil.which(name))), None)


def library_path(compiler: str) -> Path:
    """Return the cache file of the library for these sources, this processor and this compiler."""
    digest = hashlib.sha256("\n".join([compiler, *FLAGS, _processor()]).encode())
    for source in sorted([*_HERE.glob("*.h"), *_HERE.glob("*.cpp")]):
        digest.update(source.read_bytes())
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "harmonixr" / f"engine-{digest.hexdigest()[:16]}.so"


def _compile(compiler: str, path: Path) -> bool:
    started = time.perf_counter()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    command = [compiler, *FLAGS, "-o", str(unfinished), *map(str, sorted(_HERE.glob("*.cpp")))]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
        os.replace(unfinished, path)
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        _log.warning("the decoding library could not be compiled, so PyTorch decodes: %s", reason)
        return False
    finally:
        unfinished.unlink(missing_ok=True)
    _log.info("compiled the decoding library in %.1f s", time.perf_counter() - started)
    return True


def _processor() -> str:
    """Return what the compiler's `-march=native` depends on: machines may share a cache folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def _why_none(may_compile: bool) -> str:
    if find_compiler() is None:
        return "there is no C++ compiler (install g++, or set CXX)"
    return "the compiler failed" if may_compile else "nothing is compiled yet, and this run may not compile"
