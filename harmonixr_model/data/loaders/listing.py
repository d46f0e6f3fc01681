"""A listing: the files of a collection with their metadata, which every loader returns."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from harmonixr_model.errors import CorpusError


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file of a collection; files that share any of `keys` are one piece, which the first key names."""

    path: str  # relative to the folder that was given
    keys: tuple[str, ...]  # names of the piece in the collection's own terms
    split: str = ""  # the collection's own: train, valid, test or empty
    composer: str = ""
    title: str = ""
    styles: tuple[str, ...] = ()  # tags in lower case, for instance `classical`


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a collection and what they share.

    With `is_performance` the files are performances recorded without a beat, so their bars mean nothing.
    """

    name: str
    folder: Path
    licence: str
    is_performance: bool
    entries: tuple[ListedFile, ...]

    def without_split(self) -> Listing:
        """Return the same files, to be split by piece."""
        return replace(self, entries=tuple(replace(entry, split="") for entry in self.entries))

    def files(self) -> list[tuple[str, str]]:
        """Return (relative path, path) of every file, sorted."""
        return sorted((entry.path, str((self.folder / entry.path).resolve())) for entry in self.entries)


def wrong_collection(folder: Path, collection: str, looked_for: str) -> CorpusError:
    """Return the error for a folder that is not the collection, with a hint where the archive is not unpacked yet."""
    packed = sorted(path.name for path in folder.iterdir() if path.name.endswith((".zip", ".tar.gz")))
    hint = f"; unpack {packed[0]} first" if packed else "; give the folder it was unpacked into"
    return CorpusError(f"{folder} is not {collection}: looked for {looked_for}{hint}")


def given_split(name: str) -> str:
    """Return a published split by our name, empty where it is none of the three."""
    return {"train": "train", "validation": "valid", "test": "test"}.get(name, "")


def read_table(
    path: Path, needed: set[str], *, delimiter: str = ",", remedy: str = "unpack it again"
) -> list[dict[str, str]]:
    """Return the rows of a table; raises CorpusError, with the remedy, when it cannot be read or lacks a column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            missing = needed - set(reader.fieldnames or ())
            rows = [{name: value or "" for name, value in row.items() if name is not None} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path} is not a table ({error}); {remedy}") from None
    if missing:
        raise CorpusError(f"{path} lacks the columns {', '.join(sorted(missing))}; {remedy}")
    return rows


def plain(text: str) -> str:
    """Return text as a key: lower case, with one space for any run of other characters than letters and digits."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
