"""Report a training run: a progress line, JSON lines and TensorBoard curves."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from harmonixr_model.training.loop import StepMetrics


def progress_line(progress: StepMetrics) -> str:
    """Return one line with the step, the losses, the speed and the time left."""
    parts = [
        f"step {progress.step}/{progress.steps}",
        f"loss {progress.loss:.3f}",
        f"{progress.bits_per_note:.2f} bits/note",
        f"{progress.tokens / 1e6:.2f} M tokens",
        f"{progress.tokens_per_s:,.0f} tokens/s{_mfu(progress)}",
        f"{clock_time(progress.eta_s)} left",
    ]
    if progress.validation is not None:
        best = " (best)" if progress.is_best else ""
        parts.append(f"valid {progress.validation.loss:.3f}, {progress.validation.bits_per_note:.2f} bits/note{best}")
    return " · ".join(parts)


def _mfu(progress: StepMetrics) -> str:
    """Return the MFU and the peak as text; empty where they are unknown."""
    if not math.isfinite(progress.mfu):
        return ""
    scale, unit = (1e12, "TFLOP/s") if progress.peak_flops >= 1e12 else (1e9, "GFLOP/s")
    return f" (MFU {progress.mfu:.0%} of {progress.peak_flops / scale:,.0f} {unit})"


def clock_time(seconds: float) -> str:
    """Return a duration as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"


def metrics(progress: StepMetrics) -> dict[str, float | int]:
    """Return the numbers of one step by name; NaN (a step without notes) is left out, because JSON has none."""
    values: dict[str, float | int] = {
        "step": progress.step,
        "loss": progress.loss,
        "bits_per_note": progress.bits_per_note,
        "tokens": progress.tokens,
        "tokens_per_s": progress.tokens_per_s,
        "flops_per_s": progress.flops_per_s,
        "peak_flops": progress.peak_flops,
        "mfu": progress.mfu,
        "learning_rate": progress.learning_rate,
        "gradient_norm": progress.gradient_norm,
    }
    if progress.validation is not None:
        values["valid_loss"] = progress.validation.loss
        values["valid_bits_per_note"] = progress.validation.bits_per_note
    return {name: value for name, value in values.items() if math.isfinite(value)}


class MetricsLog:
    """Append each step to metrics.jsonl, and to TensorBoard's files where TensorBoard is installed.

    Steps after `resumed_at` that an interrupted run has written are removed first.
    """

    def __init__(self, folder: Path, *, resumed_at: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        _cut(self.path, after_step=resumed_at)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  closed by close()
        self._board = _tensorboard(folder / "tensorboard", resumed_at)

    def write(self, progress: StepMetrics) -> None:
        """Record one step."""
        values = metrics(progress)
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, progress.step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _cut(path: Path, *, after_step: int) -> None:
    if not path.is_file():
        return
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            step = json.loads(line)["step"]
        except ValueError:  # a killed run may have truncated its last line
            continue
        if step <= after_step:
            lines.append(line + "\n")
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text("".join(lines), encoding="utf-8")
    os.replace(unfinished, path)


def _tensorboard(folder: Path, resumed_at: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=resumed_at + 1 if resumed_at else None)
