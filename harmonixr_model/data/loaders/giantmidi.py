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

from harmonixr_model.data.loaders.listing import ListedFile, Listing, given_split, plain, read_table, wrong_collection

# Titles have commas of their own; a video's id is eleven characters, which may begin with a dash.
_NAME = re.compile(r"([^,]+), ([^,]*), (.*), ([\w-]{11})\.midi?", re.ASCII | re.IGNORECASE)
_TABLE = "full_music_pieces_youtube_similarity_pianosoloprob_split.csv"


def load(folder: Path) -> Listing:
    """Read every file of that name under the folder; one in both of its folders is taken once; raises CorpusError."""
    entries: dict[str, ListedFile] = {}
    splits = _splits(folder)
    for where, folders, names in os.walk(folder, followlinks=True):
        folders.sort()  # midis before surname_checked_midis
        for name in sorted(names):
            match = _NAME.fullmatch(name)
            if match is None or name in entries:
                continue
            surname, first, title, video = match.groups()
            composer = f"{first} {surname}".strip()
            entries[name] = ListedFile(
                path=str((Path(where) / name).relative_to(folder)),
                keys=(f"giantmidi {plain(composer)} {plain(title)}", f"giantmidi video {video}"),
                split=splits.get(video, ""),
                composer=composer,
                title=title,
                styles=("classical", "piano", "performance"),
            )
    if not entries:
        raise wrong_collection(folder, "GiantMIDI-Piano", "files named `Surname, First name, Title, video id.mid`")
    return Listing("giantmidi", folder, "CC BY 4.0", True, tuple(entries.values()))


def _splits(folder: Path) -> dict[str, str]:
    """Return the split of each video, where the table is in the folder, beside it or in a subfolder."""
    for pattern in ("", "metadata/", "../metadata/", "resources/", "*/*/"):
        for path in sorted(folder.glob(pattern + _TABLE)):
            rows = read_table(path, {"youtube_id", "split"}, delimiter="\t")
            return {row["youtube_id"]: given_split(row["split"]) for row in rows}
    return {}
