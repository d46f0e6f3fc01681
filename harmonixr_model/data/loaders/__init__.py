"""Loaders of well-known collections that a user has downloaded; each module lists the files of one collection."""

from __future__ import annotations

from pathlib import Path

from harmonixr_model.data.loaders import giantmidi, lakh, maestro, pop909
from harmonixr_model.data.loaders.listing import Listing
from harmonixr_model.errors import CorpusError

LOADERS = {"giantmidi": giantmidi.load, "lakh": lakh.load, "maestro": maestro.load, "pop909": pop909.load}


def load_listing(name: str, folder: Path, *, uses_official_split: bool = False) -> Listing:
    """Read a collection's folder as it was unpacked; raises CorpusError when it is not that collection.

    With `uses_official_split` the collection's own split applies; MAESTRO has one, and GiantMIDI in its table.
    """
    if name not in LOADERS:
        raise CorpusError(f"there is no dataset {name!r}; choose one of {', '.join(sorted(LOADERS))}")
    if not folder.is_dir():
        raise CorpusError(f"{folder} is no folder; unpack {name} and give the folder it was unpacked into")
    listing = LOADERS[name](folder)
    if not uses_official_split:
        return listing.without_split()
    if not any(entry.split for entry in listing.entries):
        raise CorpusError(f"{name} publishes no split; leave --official-split out and it is split by piece")
    return listing
