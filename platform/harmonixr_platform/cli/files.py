"""Read and write the files that commands take, and report every problem in one sentence."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.music.midi import MidiLimits
from harmonixr_model.music.song import Song

MIDI_SUFFIXES = (".mid", ".midi", ".kar")


class FileError(HarmonixrError):
    """A file or folder cannot be read or written."""


def read_song(path: Path) -> Song:
    """Return the song in a MIDI file; raises FileNotFoundError, FileError, MidiError."""
    return Song.parse(read_bytes(path, max_bytes=MidiLimits().max_bytes, kind="MIDI file"))


def read_bytes(path: Path, *, max_bytes: int, kind: str) -> bytes:
    """Return a file's bytes; raises FileError without reading when the file is too large."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            found = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise FileError(f"{path} is {found}; give a {kind}")
        if status.st_size > max_bytes:
            raise FileError(
                f"{path} has {status.st_size:,} bytes, a {kind} may have {max_bytes:,}; split it or make it smaller"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be read: {_reason(error)}") from error


def check_output(path: Path, *, inputs: Sequence[Path], force: bool) -> None:
    """Raise FileError where `path` cannot be written, or is one of `inputs` and `force` is not given."""
    if path.is_dir():
        raise FileError(f"{path} is a folder; name the file to write in it")
    if not path.parent.is_dir():
        raise FileError(f"the folder {path.parent} does not exist; make it first, or write elsewhere")
    if not force and any(path.exists() and source.exists() and path.samefile(source) for source in inputs):
        raise FileError(f"{path} is the input itself; write to another file, or give --force to overwrite it")


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; raises FileError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"the folder {folder} cannot be made: {_reason(error)}") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file completely or not at all; raises FileError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            unfinished.write_bytes(data)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {_reason(error)}") from error


def files_under(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield the files below a folder with one of the suffixes, in any case, sorted by path; skip links to folders."""
    for at, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(at, name) for name in sorted(names) if name.casefold().endswith(tuple(suffixes)))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
