"""MAESTRO (Hawthorne et al. 2019), versions 1 to 3: competition performances on a piano that records.

    maestro-v3.0.0.csv, maestro-v3.0.0.json     composer, title, split, year and midi_filename of every file
    2004/ 2006/ … 2018/                         *.midi (and *.wav, left alone)

Several competitors play the same piece: a piece is a composer and a title.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harmonixr_model.data.loaders.listing import ListedFile, Listing, given_split, plain, read_table, wrong_collection
from harmonixr_model.errors import CorpusError

_COLUMNS = {"canonical_composer", "canonical_title", "split", "midi_filename"}


def load(folder: Path) -> Listing:
    """Read the folder with the table, or the one above it; raises CorpusError."""
    root, rows = _rows(folder)
    entries = [
        ListedFile(
            path=str((root / row["midi_filename"]).relative_to(folder)),
            keys=(f"maestro {plain(row['canonical_composer'])} {plain(row['canonical_title'])}",),
            split=given_split(row["split"]),
            composer=row["canonical_composer"],
            title=row["canonical_title"],
            styles=("classical", "piano", "performance"),
        )
        for row in rows
    ]
    there = tuple(entry for entry in entries if (folder / entry.path).is_file())
    if not there:
        raise wrong_collection(
            folder, "MAESTRO", f"the files its table names, as {entries[0].path}" if entries else "a table"
        )
    return Listing("maestro", folder, "CC BY-NC-SA 4.0", True, there)


def _rows(folder: Path) -> tuple[Path, list[dict[str, str]]]:
    for root in (folder, *sorted(folder.glob("maestro-v*"))):
        for table in sorted(root.glob("maestro-v*.csv"), reverse=True):
            return root, read_table(table, _COLUMNS)
        for table in sorted(root.glob("maestro-v*.json"), reverse=True):
            return root, _json_rows(table)
    raise wrong_collection(folder, "MAESTRO", "maestro-v*.csv or maestro-v*.json beside the folders of years")


def _json_rows(path: Path) -> list[dict[str, str]]:
    """Read the JSON twin of the table: version 3 keeps columns {name: {row: value}}, earlier ones a list of rows."""
    try:
        table: Any = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(table, list):
            return [{name: str(row[name]) for name in _COLUMNS} for row in table]
        return [{name: str(table[name][row]) for name in _COLUMNS} for row in table["midi_filename"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorpusError(f"{path} is not MAESTRO's table ({error!r}); unpack it again") from None
