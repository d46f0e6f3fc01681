"""Tokens as text that a person can read and edit: names separated by spaces, one bar a line."""

from __future__ import annotations

from collections.abc import Sequence

from harmonixr_model.errors import TokenError
from harmonixr_model.notes.vocabulary import VOCAB

_OPENS_LINE = frozenset(VOCAB.id(name) for name in ("REF", "BAR", "SEP", "FILL", "EOS"))


def to_text(tokens: Sequence[int]) -> str:
    """Return the names of the tokens, a new line before each REF, BAR, SEP, FILL and EOS."""
    lines: list[list[str]] = [[]]
    for token in tokens:
        if token in _OPENS_LINE and lines[-1]:
            lines.append([])
        lines[-1].append(VOCAB.name(token))
    return "".join(" ".join(line) + "\n" for line in lines if line)


def from_text(text: str) -> list[int]:
    """Return the tokens of a text; text after # is a comment.

    Raises TokenError with the line number at the first word that is not a token.
    """
    tokens: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        for word in line.split("#", 1)[0].split():
            try:
                tokens.append(VOCAB.id(word))
            except TokenError as error:
                raise TokenError(f"line {number}: {error}") from None
    return tokens
