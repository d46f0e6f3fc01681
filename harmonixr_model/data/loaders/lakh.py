"""The Lakh MIDI dataset (Raffel 2016), in any of its forms.

    lmd_full/0/ … lmd_full/f/          <md5>.mid, by the first digit of the MD5
    lmd_matched/A/B/C/TRABC…/          <md5>.mid of every file that matches that track of the Million Song Dataset
    lmd_aligned/A/B/C/TRABC…/          the same, moved in time to the recording
    clean_midi/Artist/                 Title.mid, Title.1.mid …
    match_scores.json                  {track: {md5: score}}
    md5_to_paths.json                  {md5: [names the file was found under]}

A piece is a matched track; a file that matches several makes them one, a file that matches none is its own.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harmonixr_model.data.loaders.listing import ListedFile, Listing, plain, wrong_collection
from harmonixr_model.errors import CorpusError

# The first that exists is used: lmd_full has the files of the next two.
FORMS = ("lmd_full", "lmd_matched", "lmd_aligned", "clean_midi")
_MD5 = re.compile(r"[0-9a-f]{32}")
_TRACK = re.compile(r"TR[A-Z0-9]{16}")


def load(folder: Path) -> Listing:
    """Read one of the forms, or the folder above them; raises CorpusError."""
    for form in FORMS:
        root = folder if folder.name == form else folder / form
        if root.is_dir():
            entries = tuple(_clean(root, folder) if form == "clean_midi" else _by_md5(root, folder))
            if entries:
                return Listing("lakh", folder, "CC BY 4.0", False, entries)
    raise wrong_collection(
        folder, "the Lakh MIDI dataset", f"a folder {', '.join(FORMS[:-1])} or {FORMS[-1]} with its files"
    )


def _by_md5(root: Path, folder: Path) -> Iterator[ListedFile]:
    matches = _matches(root)
    titles = _read_json(root, "md5_to_paths.json")
    for path in sorted(root.rglob("*.mid")):
        if not _MD5.fullmatch(path.stem):
            continue
        tracks = {path.parent.name} if _TRACK.fullmatch(path.parent.name) else matches.get(path.stem, set())
        keys = tuple(f"lakh {name}" for name in (*sorted(tracks), path.stem))
        title = Path(str((titles.get(path.stem) or [""])[0])).stem
        yield ListedFile(str(path.relative_to(folder)), keys, title=title)


def _clean(root: Path, folder: Path) -> Iterator[ListedFile]:
    for path in sorted(root.glob("*/*.mid")):
        artist, title = path.parent.name, re.sub(r"\.\d+$", "", path.stem)
        keys = (f"lakh {plain(artist)} {plain(title)}",)
        yield ListedFile(str(path.relative_to(folder)), keys, composer=artist, title=title)


def _matches(root: Path) -> dict[str, set[str]]:
    """Return the tracks each MD5 matches, however well: one too many only makes a piece larger."""
    matches: dict[str, set[str]] = defaultdict(set)
    table = _read_json(root, "match_scores.json")
    try:
        for track, scores in table.items():
            for md5 in dict(scores):
                matches[md5].add(track)
    except (ValueError, TypeError):
        raise CorpusError("match_scores.json is not Lakh's {track: {md5: score}}; download it again") from None
    return matches


def _read_json(root: Path, name: str) -> dict[str, Any]:
    """Read one of the collection's tables in or above its folder; empty without it."""
    for path in (root / name, root.parent / name):
        if path.is_file():
            try:
                table = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise CorpusError(f"{path} is not JSON ({error}); download it again") from None
            return table if isinstance(table, dict) else {}
    return {}
