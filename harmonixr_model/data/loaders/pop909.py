"""POP909 (Wang et al. 2020): piano arrangements of Chinese pop songs, with the versions they were revised from.

    POP909/index.xlsx                 song_id, name, artist …
    POP909/001/001.mid                tracks MELODY, BRIDGE, PIANO
    POP909/001/versions/001-v1.mid    earlier arrangements
    POP909/001/                       beat_audio.txt, beat_midi.txt, chord_audio.txt, chord_midi.txt, key_audio.txt

A piece is a song's folder: its versions are near-duplicates of each other.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.etree import ElementTree

from harmonixr_model.data.loaders.listing import ListedFile, Listing, wrong_collection
from harmonixr_model.errors import CorpusError


def load(folder: Path) -> Listing:
    """Read the folder of songs, or one or two above it; raises CorpusError."""
    for root in (folder, folder / "POP909", *sorted(folder.glob("POP909*/POP909"))):
        songs = [path for path in sorted(root.glob("[0-9][0-9][0-9]")) if (path / f"{path.name}.mid").is_file()]
        if songs:
            names = _names(root / "index.xlsx")
            entries = [entry for song in songs for entry in _entries(song, folder, *names.get(song.name, ("", "")))]
            return Listing("pop909", folder, "MIT", False, tuple(entries))
    raise wrong_collection(folder, "POP909", "folders 001 … 909 that hold 001.mid … 909.mid")


def _entries(song: Path, folder: Path, title: str, artist: str) -> list[ListedFile]:
    paths = (song / f"{song.name}.mid", *sorted(song.glob(f"versions/{song.name}-v*.mid")))
    keys, styles = (f"pop909 {song.name}",), ("pop", "piano")
    return [ListedFile(str(path.relative_to(folder)), keys, "", artist, title, styles) for path in paths]


def _names(path: Path) -> dict[str, tuple[str, str]]:
    """Return (title, artist) by song; nothing without the index. Raises CorpusError where it is damaged."""
    from openpyxl import load_workbook

    if not path.is_file():
        return {}
    try:
        header, *rows = load_workbook(path, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
    except (zipfile.BadZipFile, KeyError, ValueError, IndexError, ElementTree.ParseError) as error:
        raise CorpusError(f"{path} cannot be read as a sheet ({error}); unpack it again") from None
    records = [dict(zip(header, row, strict=True)) for row in rows]
    return {
        str(record["song_id"]).partition(".")[0].zfill(3): (record.get("name") or "", record.get("artist") or "")
        for record in records
        if record.get("song_id")
    }
