"""`harmonixr encode`: write MIDI files as token text that a person can read and edit."""

from __future__ import annotations

import argparse
from pathlib import Path

from harmonixr_platform.cli import batch
from harmonixr_platform.cli.files import MIDI_SUFFIXES, read_song

EPILOG = """
Each line holds the tokens of one bar, separated by spaces; text after # is a comment. song.mid becomes song.mid.txt.
Tokens encode notes on a grid of 24 steps a quarter, programs, tempos and metres, but no names and no controllers.
A file that cannot be read is reported, and the other files are converted; the exit status is then 1.
`harmonixr decode` converts the text back to MIDI.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    batch.add_arguments(parser, source="a MIDI file")


def run(args: argparse.Namespace) -> int:
    """Encode; return 0, or 1 when a file of a folder failed."""
    return batch.convert_all(args, _encode, suffixes=MIDI_SUFFIXES, rename=lambda name: f"{name}.txt")


def _encode(path: Path) -> bytes:
    from harmonixr_model.notes.text import to_text
    from harmonixr_model.notes.tokenizer import encode

    return to_text(encode(read_song(path).score)).encode()
