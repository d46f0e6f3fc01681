"""`harmonixr decode`: convert token text, as `encode` writes it, back to MIDI files."""

from __future__ import annotations

import argparse
from pathlib import Path

from harmonixr_model.errors import TokenError
from harmonixr_platform.cli import batch
from harmonixr_platform.cli.files import MIDI_SUFFIXES, read_bytes

EPILOG = """
song.mid.txt becomes song.mid. In a folder every file ending in .mid.txt, .midi.txt or .kar.txt is decoded.
An invalid text is reported with its line, and the other files are converted; the exit status is then 1.
"""
MAX_TEXT_BYTES = 64 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    batch.add_arguments(parser, source="a token text")


def run(args: argparse.Namespace) -> int:
    """Decode; return 0, or 1 when a file of a folder failed."""
    return batch.convert_all(args, _decode, suffixes=[f"{s}.txt" for s in MIDI_SUFFIXES], rename=midi_name)


def midi_name(name: str) -> str:
    """Return the name of the MIDI file of a token text."""
    stem = name.removesuffix(".txt")
    return stem if stem.casefold().endswith(MIDI_SUFFIXES) else f"{stem}.mid"


def _decode(path: Path) -> bytes:
    from harmonixr_model.music.write import write_midi
    from harmonixr_model.notes.text import from_text
    from harmonixr_model.notes.tokenizer import decode

    data = read_bytes(path, max_bytes=MAX_TEXT_BYTES, kind="token text")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise TokenError(f"byte {error.start + 1} is not UTF-8 text; give a file that `encode` wrote") from error
    return write_midi(decode(from_text(text)))
