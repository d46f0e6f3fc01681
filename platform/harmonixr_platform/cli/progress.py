"""Show the progress of a command on standard error: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from typing import Any, TextIO

LOG_INTERVAL_S = 15.0


def progress_bar(description: str, total: int | None = None, unit: str = "") -> Any:
    """Return a tqdm bar. Use it in a `with` block, or call `close`.

    Args:
        description: the work, or the current stage. `bar.set_description_str` names the next stage.
        total: the number of units; None where it is unknown.
        unit: the name of one unit. Without it, the bar shows only the stage and the elapsed time.

    """
    from tqdm import tqdm

    is_terminal = sys.stderr.isatty()
    options: dict[str, Any] = {"dynamic_ncols": True}
    if not is_terminal:
        options = {"file": _LogLines(sys.stderr), "mininterval": LOG_INTERVAL_S}
    if not unit:
        options |= {"bar_format": "{desc} … {elapsed}", "leave": False}
    elif not is_terminal:
        options["bar_format"] = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
    return tqdm(desc=description, total=total, unit=unit, **options)


class _LogLines:
    """A stream that writes each new state of a bar as a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = ""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line and line != self._last:
            self._stream.write(line + "\n")
            self._last = line

    def flush(self) -> None:
        self._stream.flush()
