"""Style and composer tags of a piece, from its record in a corpus."""

from __future__ import annotations

import re
import unicodedata

from harmonixr_model.data.corpus import Piece
from harmonixr_model.notes.vocabulary import COMPOSERS, STYLES

_OF_SOURCE = {
    "pop909": "pop",
    "lieder": "lied",
    "freedoom": "game",
    "nottingham": "folk",
    "jsb": "chorale",
    **dict.fromkeys(("asap", "maestro", "giantmidi", "crnngan", "pianoecomp", "cheriell"), "classical"),
}
# Groove names its files NUMBER_STYLE[-SUBSTYLE]_TEMPO_KIND_METRE.
_GROOVE = re.compile(r"(?:.*[/_])?\d+_([a-z]+)(?:-[a-z]+)*_\d+_(?:beat|fill)_\d+-\d+\.midi?")


def style_of(piece: Piece) -> str | None:
    """Return the style of a piece from its tags, source or file name, None without any."""
    if (tagged := next((tag for tag in piece.styles if tag in STYLES), None)) is not None:
        return tagged
    if piece.source == "groove":
        match = _GROOVE.fullmatch(piece.path)
        return match[1] if match and match[1] in STYLES else None
    return _OF_SOURCE.get(piece.source)


def composer_of(piece: Piece) -> str | None:
    """Return the composer tag of a piece, by surname without accents, None without one.

    Of `Johann Sebastian Bach / Ferruccio Busoni`, an arrangement, it is the first.
    """
    words = piece.composer.partition("/")[0].split()
    letters = unicodedata.normalize("NFD", words[-1] if words else "")
    surname = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return surname if surname in COMPOSERS else None
