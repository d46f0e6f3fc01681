"""`harmonixr encode`: MIDI files as token text that a person can read and edit. See `decode` for the way back."""

from __future__ import annotations

import argparse
from pathlib import Path

from harmonixr_platform.cli import batch
from harmonixr_platform.cli.files import MIDI_SUFFIXES, read_song

EPILOG = """
One bar a line, names with spaces between; what follows # is a remark. song.mid becomes song.mid.txt.
What tokens say: notes on a grid of 24 steps a quarter, programs, tempos, metres. Names and controllers are not said.
A file that cannot be read is reported and the others go on; the exit status is then 1.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    batch.add_arguments(parser, what="a MIDI file")


def run(args: argparse.Namespace) -> int:
    """Encode; return 0, or 1 when a file of a folder failed."""
    return batch.convert_all(args, _encode, suffixes=MIDI_SUFFIXES, rename=lambda name: f"{name}.txt")


def _encode(path: Path) -> bytes:
    from harmonixr_model.notes.text import to_text
    from harmonixr_model.notes.tokenizer import encode

    return to_text(encode(read_song(path).score)).encode()
