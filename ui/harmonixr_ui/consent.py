"""The consent text of listeners. A changed text needs a new version, and a new version needs their consent again."""

from __future__ import annotations

from typing import Any

VERSION = "1"
PARAGRAPHS = (
    "You will hear pairs of fills for a gap in a piece of music and say which you would keep. You may stop at any "
    "time.",
    "Kept with each answer: your choice, how strong it is, your tags and comment, which seconds of each fill you "
    "heard, how the headphone check ended, and the time. For two fills of your own gap the piece you opened is kept "
    "too.",
    "Not kept: your name, your address, or anything about your device. Answers are joined by a pseudonym made from a "
    "random key that lives in this browser.",
    "Answers are kept for as long as the models that learn from them are compared, and may be published in this form. "
    "Give whoever runs this page your listener key (under “About your data”) and all of your answers are erased.",
)


def wording() -> dict[str, Any]:
    """Return the wording as the value that the page shows."""
    return {"version": VERSION, "paragraphs": list(PARAGRAPHS)}
