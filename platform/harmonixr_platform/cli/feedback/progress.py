"""The line that says how far a command is."""

from __future__ import annotations

import sys


def progress(text: str | None) -> None:
    """Redraw the line; None wipes it. Nothing when nobody watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text or ''}", end="", file=sys.stderr, flush=True)
