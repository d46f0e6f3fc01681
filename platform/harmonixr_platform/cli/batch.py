"""Convert one file, or all files of a folder with the same layout: the common part of `encode` and `decode`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.cli.files import FileError, check_output, files_under, make_folder, write_whole
from harmonixr_platform.cli.progress import progress_bar

Convert = Callable[[Path], bytes]


def add_arguments(parser: argparse.ArgumentParser, *, source: str) -> None:
    """Declare the arguments of both commands."""
    parser.add_argument("source", type=Path, metavar="FILE|FOLDER", help=f"{source}, or a folder of them at any depth")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="the output file; for a folder, a folder with the same layout, made where it is missing",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")


def convert_all(
    args: argparse.Namespace, convert: Convert, *, suffixes: Sequence[str], rename: Callable[[str], str]
) -> int:
    """Convert all files; return 0, or 1 when a file of a folder failed (the other files are converted).

    Raises HarmonixrError or FileNotFoundError when a single file failed, or there is nothing to convert.
    """
    source, output = args.source, args.output
    if not source.is_dir():
        target = output / rename(source.name) if output.is_dir() else output
        _convert(source, target, convert, force=args.force)
        print(f"{source} -> {target}")
        return 0
    if output.exists() and not output.is_dir():
        raise FileError(f"{output} is a file; name a folder for the converted files")
    files = list(files_under(source, suffixes))
    if not files:
        raise FileError(f"there is no file ending in {' or '.join(suffixes)} below {source}")
    return _convert_folder(files, args, convert, rename)


def _convert_folder(
    files: Sequence[Path], args: argparse.Namespace, convert: Convert, rename: Callable[[str], str]
) -> int:
    failed = 0
    with progress_bar("converting", len(files), "file") as bar:
        for path in files:
            target = args.output / path.relative_to(args.source).with_name(rename(path.name))
            try:
                make_folder(target.parent)
                _convert(path, target, convert, force=args.force)
            except (HarmonixrError, FileNotFoundError) as error:
                failed += 1
                bar.write(f"{path}: {error}", file=sys.stderr)
            bar.update()
    print(f"{len(files) - failed} of {len(files)} files -> {args.output}" + (f", {failed} failed" if failed else ""))
    return 1 if failed else 0


def _convert(source: Path, target: Path, convert: Convert, *, force: bool) -> None:
    check_output(target, inputs=[source], force=force)
    if target.exists() and not force:
        raise FileError(f"{target} exists already; write elsewhere, or give --force to overwrite it")
    write_whole(target, convert(source))
