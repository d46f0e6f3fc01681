"""The first sheet of an .xlsx as rows of text: enough of the format to read a collection's index. Knows no music."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from harmonixr_model.errors import CorpusError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_MAX_BYTES = 64 << 20


def read_sheet(path: Path) -> list[dict[str, str]]:
    """Return the rows below the first by the names in it (ECMA-376, 18.3); raises CorpusError."""
    try:
        with zipfile.ZipFile(path) as archive:
            strings = _strings(archive)
            rows = [
                {_column(cell): _text(cell, strings) for cell in row.iter(f"{_MAIN}c")}
                for row in _parse(archive, "xl/worksheets/sheet1.xml").iter(f"{_MAIN}row")
            ]
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, ValueError, IndexError) as error:
        raise CorpusError(f"{path} cannot be read as a sheet ({error}); unpack it again") from None
    if not rows:
        return []
    return [{name: row.get(column, "") for column, name in rows[0].items() if name} for row in rows[1:]]


def _parse(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if archive.getinfo(name).file_size > _MAX_BYTES:
        raise ValueError(f"{name} is too large")
    return ElementTree.fromstring(archive.read(name))


def _strings(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    return [
        "".join(part.text or "" for part in item.iter(f"{_MAIN}t"))
        for item in _parse(archive, "xl/sharedStrings.xml").iter(f"{_MAIN}si")
    ]


def _column(cell: ElementTree.Element) -> str:
    return re.sub(r"\d", "", cell.get("r", ""))


def _text(cell: ElementTree.Element, strings: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return "".join(part.text or "" for part in cell.iter(f"{_MAIN}t"))
    value = cell.findtext(f"{_MAIN}v", "")
    return strings[int(value)] if cell.get("t") == "s" and value else value
