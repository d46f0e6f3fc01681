"""Load a checkpoint into a running engine. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonixr_platform.serving.stages.prompt_timer import PromptTimer

if TYPE_CHECKING:
    from harmonixr_model.engine.scheduler import EngineLoop
    from harmonixr_platform.serving.arguments import ServingArgs


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A running engine on a checkpoint's weights.

    `max_length` is the most tokens of prompt and fill together, `supported` names the controls and tags of the
    training (`supported_controls`), `precision` is the number format of the arithmetic.
    """

    engine: EngineLoop
    max_length: int
    timer: PromptTimer = field(default_factory=PromptTimer)
    supported: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"


# Returns a running engine for a checkpoint file.
EngineLoader = Callable[[Path, "ServingArgs"], LoadedEngine]


def load_engine(path: Path, args: ServingArgs) -> LoadedEngine:
    """Return the library's batching engine on a checkpoint's weights, running on its own thread.

    Raises CheckpointError for weights that the service cannot use.
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
    timer = PromptTimer()
    batch = open_batch(model.eval(), rows=args.rows, compiled=args.compiled)
    loop = EngineLoop(timer.wrap(batch), max_length=model.config.max_length, limits=limits)
    loop.start()
    return LoadedEngine(loop, model.config.max_length, timer, supported_controls(info), batch.precision)
