"""The seam between the Model deployment and an engine: what a loader gives. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harmonixr_platform.serving.stages.stopwatch import Stopwatch

if TYPE_CHECKING:
    from harmonixr_model.engine.engine import Sampling
    from harmonixr_model.engine.request import RequestHandle
    from harmonixr_model.prompt.layout import InfillPrompt
    from harmonixr_platform.serving.arguments import ServingArgs


class ServingEngine(Protocol):
    """Answers many requests at once in a thread of its own; the library's EngineLoop is one."""

    def submit(
        self,
        prompt: InfillPrompt,
        seeds: Sequence[int],
        sampling: Sampling,
        *,
        owner: str = "",
        deadline: float | None = None,
    ) -> RequestHandle:
        """Queue a prompt, one candidate a seed; raises PromptError, EngineBusy."""
        ...

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests; end after all that were taken, or at once."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A running engine on a checkpoint's weights, the most tokens it takes, prompt and fill together, and its clock.

    `supported` lists the controls and tags that the weights were trained on (`supported_controls`), `precision` in
    which number format they run.
    """

    engine: ServingEngine
    max_length: int
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    supported: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"


# Makes a running engine of a checkpoint file.
EngineLoader = Callable[[Path, "ServingArgs"], LoadedEngine]


def load_engine(path: Path, args: ServingArgs) -> LoadedEngine:
    """Return the library's batching engine on a checkpoint's weights, running in a thread of its own.

    Raises CheckpointError where the weights are of no use here.
    """
    import torch

    from harmonixr_model.engine.scheduler import EngineLimits, EngineLoop
    from harmonixr_model.engine.selection import open_batch
    from harmonixr_model.infill.checkpoint import load_checkpoint
    from harmonixr_model.prompt.controls import supported_controls

    torch.set_num_threads(args.threads)
    model, info = load_checkpoint(path)
    limits = EngineLimits(
        rows=args.rows,
        tokens=max(args.cache_tokens, model.config.max_length),
        waiting_tokens=args.waiting_tokens,
        owner_rows=args.caller_rows,
        owner_waiting_tokens=args.caller_waiting_tokens,
    )
    stopwatch = Stopwatch()
    batch = open_batch(model.eval(), rows=args.rows, compiled=args.compiled)
    loop = EngineLoop(stopwatch.watch(batch), max_length=model.config.max_length, limits=limits)
    loop.start()
    return LoadedEngine(loop, model.config.max_length, stopwatch, supported_controls(info), batch.precision)
