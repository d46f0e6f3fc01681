"""Train arms and evaluate them on held-out items: a JSON file for each finished arm, a saved state for the others."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from parts.arms import Arm, CachedExamples
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harmonixr_model.data.collate import collate
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import Example
from harmonixr_model.evaluation.protocol import EvaluationItem, evaluation_items
from harmonixr_model.infill.config import InfillConfig, sized
from harmonixr_model.infill.loss import infill_loss
from harmonixr_model.training.infill_task import BatchConfig, InfillTask
from harmonixr_model.training.loop import LoopConfig, new_run, train
from harmonixr_model.training.state import Run, load_state, save_state
from harmonixr_model.variants.compound import CompoundTransformer
from harmonixr_model.variants.compound_task import CompoundTask, collate_compound, compound_loss, grouped_example

SAVE_EVERY_S = 60.0
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """The common settings of all arms: model, training and evaluation items."""

    model: InfillConfig
    loop: LoopConfig
    batch: BatchConfig
    context: int
    items: int
    shapes: tuple[str, ...] = ()

    @classmethod
    def of(cls, args: argparse.Namespace, *, shapes: tuple[str, ...] = ()) -> Plan:
        """Return the plan of a command line."""
        steps = args.tokens // args.batch_tokens
        return cls(
            model=sized(
                "nano", width=args.width, layers=args.layers, heads=args.heads, dropout=0.0, max_length=args.context
            ),
            # The items at the end replace validation.
            loop=LoopConfig(
                steps=steps, learning_rate=args.lr, warmup=max(1, steps // 15), validate_every=steps + 1, patience=0
            ),
            batch=BatchConfig(batch_tokens=args.batch_tokens, micro_tokens=args.batch_tokens, validation_examples=16),
            context=args.context,
            items=args.items,
            shapes=shapes,
        )

    def identity(self) -> dict[str, Any]:
        """Return the plan as JSON. Results of different plans are not compared."""
        made = {"model": self.model.to_dict(), "loop": asdict(self.loop), "batch": asdict(self.batch)}
        return {
            **made,
            "context": self.context,
            "questions": self.items,  # the name in earlier results
            **({"shapes": list(self.shapes)} if self.shapes else {}),
        }


class Comparison:
    """Runs a plan on a corpus; arms with the same data share examples and items."""

    def __init__(self, plan: Plan, corpus: Corpus, *, out: Path, log: Log) -> None:
        self.plan = plan
        self.corpus = corpus
        self.out = out
        self.log = log
        self._sources: dict[tuple[object, ...], CachedExamples] = {}
        self._items: dict[tuple[object, ...], list[EvaluationItem]] = {}

    def run(self, arm: Arm, *, trains: bool = True) -> dict[str, Any] | None:
        """Train an arm, evaluate it and return its result; a stored result is reused, a stored state resumed.

        Without `trains`, return None if there is no result.
        """
        folder = self.out / "".join(letter if letter.isalnum() else "-" for letter in arm.name)
        result = folder / "result.json"
        if result.is_file():
            made: dict[str, Any] = json.loads(result.read_text())
            if made["plan"] == self.plan.identity():
                return made
        if not trains:
            return None
        made, model = self._make(arm, folder)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), folder / "model.pt")
        result.write_text(json.dumps(made))
        (folder / "state.pt").unlink(missing_ok=True)
        bits, notes = (sum(item[name] for item in made["asked"]) for name in ("bits", "notes"))
        self.log(f"{arm.name}: {bits / notes:.3f} bits per note, {made['seconds']:.0f} s")
        return made

    def _make(self, arm: Arm, folder: Path) -> tuple[dict[str, Any], nn.Module]:
        torch.manual_seed(arm.seed)
        model = arm.build(self.plan.model)
        loop = arm.schedule(self.plan.loop)
        run = new_run(model, loop)
        task = self._task(arm, steps=loop.steps)
        flops = flops_per_token(model, task)
        seconds = _train(arm, self.plan, run, task, loop, folder=folder, log=self.log)
        made = {
            "plan": self.plan.identity(),
            "name": arm.name,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "tokens": run.tokens,
            "flops_per_token": flops,
            "seconds": seconds,
            "asked": [
                {
                    "number": item.number,
                    "piece": item.piece_id,
                    "shape": item.shape,
                    "repeated": item.is_repeated,
                    "notes": item.notes,
                    "bits": target_bits(model, item.example()),
                }
                for item in self.items(arm)
            ],
        }
        return made, model

    def _task(self, arm: Arm, *, steps: int) -> InfillTask:
        context = self.plan.context
        if arm.data_key not in self._sources:
            self._sources[arm.data_key] = arm.source(arm.open(self.corpus), context=context, steps=steps)
        source = self._sources[arm.data_key]
        batch = replace(self.plan.batch, seed=arm.seed)
        if arm.is_in_steps:
            return CompoundTask({context: source}, source, batch, steps=steps)
        return InfillTask({context: source}, source, batch, steps=steps)

    def items(self, arm: Arm) -> list[EvaluationItem]:
        """Return the items of this arm. All arms have the same gaps; the context may differ."""
        key = arm.passages, arm.is_in_one_key, *arm.item_options.items()
        if key not in self._items:
            plan = self.plan
            self._items[key] = list(
                evaluation_items(
                    arm.open(self.corpus),
                    split="valid",
                    count=plan.items,
                    shapes=plan.shapes,
                    passages=arm.passages,
                    context_tokens=plan.context,
                    **arm.item_options,
                )
            )
        return self._items[key]


def _train(arm: Arm, plan: Plan, run: Run, task: InfillTask, loop: LoopConfig, *, folder: Path, log: Log) -> float:
    """Train to the end and return the CPU seconds since the last interruption."""
    state, job = folder / "state.pt", {"arm": arm.name, **plan.identity()}
    if state.is_file():
        load_state(state, run, job=job)
    started, saved_at = time.process_time(), time.monotonic()
    for progress in train(run, task, loop, device=torch.device("cpu")):
        if progress.step % 25 == 0:
            speed, left = progress.tokens_per_s, progress.eta_s
            log(
                f"{arm.name}: step {progress.step}, {progress.bits_per_note:.2f} bits, {speed:.0f}/s, {left:.0f} s left"
            )
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            save_state(state, run, job=job)
            saved_at = time.monotonic()
    run.model.eval()
    return time.process_time() - started


def flops_per_token(model: nn.Module, task: InfillTask) -> float:
    """Return the FLOPs per token of one step, forward and backward; padding does not count as tokens."""
    read, counted = 0, 0
    for batch in task.batches(task.steps - 1):
        with FlopCounterMode(display=False) as counter:
            task.loss(model, batch)[0].backward()
        counted += counter.get_total_flops()
        read += int(batch.length_B.sum())
    model.zero_grad(set_to_none=True)
    return counted / read


@torch.inference_mode()
def target_bits(model: nn.Module, example: Example) -> float:
    """Return the model's bits for the original, END included, without the grammar."""
    if isinstance(model, CompoundTransformer):
        nats, _ = compound_loss(model, collate_compound([grouped_example(example)]))
    else:
        nats, _ = infill_loss(model, collate([example]))
    return float(nats.sum()) / math.log(2)
