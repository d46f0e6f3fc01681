"""GiantMIDI-Piano (Kong et al. 2020): recordings of the piano repertoire, transcribed by a network.

    midis/                    Surname, First names, Title, video id.mid
    surname_checked_midis/    the same names: the subset whose video title names the composer
    metadata/…_split.csv      by tabs: surname, firstname, music, youtube_id, split and more, of these and other videos

A piece is a composer and a title, and a video: two titles that led to one video are one recording.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from harmonixr_model.data.loaders.listing import ListedFile, Listing, plain, read_table, wrong_collection

# Titles have commas of their own; a video's id is eleven characters, which may begin with a dash.
_NAME = re.compile(
    r"(?P<surname>[^,]+), (?P<first>[^,]*), (?P<title>.*), (?P<video>[\w-]{11})\.midi?", re.ASCII | re.IGNORECASE
)
_TABLE = "full_music_pieces_youtube_similarity_pianosoloprob_split.csv"
_SPLITS = {"train": "train", "validation": "valid", "test": "test"}
_NAME_SHAPE = "files named `Surname, First name, Title, video id.mid`"


def load(folder: Path) -> Listing:
    """Read every file of that name under the folder; one in both of its folders is taken once; raises CorpusError."""
    entries: dict[str, ListedFile] = {}
    splits = _splits(folder)
    for where, folders, names in os.walk(folder, followlinks=True):
        folders.sort()  # midis before surname_checked_midis
        for name in sorted(names):
            match = _NAME.fullmatch(name)
            if match is not None and name not in entries:
                path = str((Path(where) / name).relative_to(folder))
                entries[name] = _entry(match, path, splits.get(match["video"], ""))
    if not entries:
        raise wrong_collection(folder, "GiantMIDI-Piano", _NAME_SHAPE)
    return Listing("giantmidi", folder, "CC BY 4.0", True, tuple(entries.values()))


def _splits(folder: Path) -> dict[str, str]:
    """Return the split of each video, where the table is in the folder, beside it or in a subfolder."""
    for pattern in (_TABLE, f"metadata/{_TABLE}", f"../metadata/{_TABLE}", f"resources/{_TABLE}", f"*/*/{_TABLE}"):
        for path in sorted(folder.glob(pattern)):
            rows = read_table(path, {"youtube_id", "split"}, delimiter="\t")
            return {row["youtube_id"]: _SPLITS.get(row["split"], "") for row in rows}
    return {}


def _entry(match: re.Match[str], path: str, split: str) -> ListedFile:
    composer = f"{match['first']} {match['surname']}".strip()
    return ListedFile(
        path=path,
        keys=(f"giantmidi {plain(composer)} {plain(match['title'])}", f"giantmidi video {match['video']}"),
        split=split,
        composer=composer,
        title=match["title"],
        styles=("classical", "piano", "performance"),
    )
