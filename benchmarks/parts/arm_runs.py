"""Train arms and ask them the held-out items: a JSON a finished arm, a state to go on from for the others."""

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
from parts.arms import Arm, Remembered
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
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What all arms have in common: the model, the tokens they read, and what they are asked afterwards."""

    model: InfillConfig
    loop: LoopConfig
    batch: BatchConfig
    context: int
    evaluation_items: int
    shapes: tuple[str, ...] = ()

    @classmethod
    def of(cls, args: argparse.Namespace, *, shapes: tuple[str, ...] = ()) -> Plan:
        """Return the plan that a command line asks for."""
        steps = args.tokens // args.batch_tokens
        return cls(
            model=sized(
                "nano", width=args.width, layers=args.layers, heads=args.heads, dropout=0.0, max_length=args.context
            ),
            # What validates is the items at the end.
            loop=LoopConfig(
                steps=steps, learning_rate=args.lr, warmup=max(1, steps // 15), validate_every=steps + 1, patience=0
            ),
            batch=BatchConfig(batch_tokens=args.batch_tokens, micro_tokens=args.batch_tokens, validation_examples=16),
            context=args.context,
            evaluation_items=args.items,
            shapes=shapes,
        )

    def identity(self) -> dict[str, Any]:
        """Return the plan as JSON: results of another plan are not compared with this one's."""
        made = {"model": self.model.to_dict(), "loop": asdict(self.loop), "batch": asdict(self.batch)}
        return {
            **made,
            "context": self.context,
            "evaluation_items": self.evaluation_items,
            **({"shapes": list(self.shapes)} if self.shapes else {}),
        }


class Comparison:
    """A plan carried out over a corpus; arms that are shown the same share examples and items."""

    def __init__(self, plan: Plan, corpus: Corpus, *, out: Path, say: Say) -> None:
        self.plan = plan
        self.corpus = corpus
        self.out = out
        self.say = say
        self._sources: dict[tuple[object, ...], Remembered] = {}
        self._questions: dict[tuple[object, ...], list[EvaluationItem]] = {}

    def run(self, arm: Arm, *, trains: bool = True) -> dict[str, Any] | None:
        """Train an arm or what is left of it, ask it, and return its result; one that is there already is read.

        Without `trains`, None where there is no result yet.
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
        bits, notes = (sum(asked[what] for asked in made["asked"]) for what in ("bits", "notes"))
        self.say(f"{arm.name}: {bits / notes:.3f} bits a note, {made['seconds']:.0f} s")
        return made

    def _make(self, arm: Arm, folder: Path) -> tuple[dict[str, Any], nn.Module]:
        torch.manual_seed(arm.seed)
        model = arm.build(self.plan.model)
        loop = arm.schedule(self.plan.loop)
        run = new_run(model, loop)
        task = self._task(arm, steps=loop.steps)
        flops = flops_per_token(model, task)
        seconds = _train(arm, self.plan, run, task, loop, folder=folder, say=self.say)
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
                for item in self.ask(arm)
            ],
        }
        return made, model

    def _task(self, arm: Arm, *, steps: int) -> InfillTask:
        context = self.plan.context
        if arm.shown not in self._sources:
            self._sources[arm.shown] = arm.source(arm.open(self.corpus), context=context, steps=steps)
        source = self._sources[arm.shown]
        # Nothing is validated on the way: the loop's configuration says so.
        batch = replace(self.plan.batch, seed=arm.seed)
        if arm.is_in_steps:
            return CompoundTask({context: source}, source, batch, steps=steps)
        return InfillTask({context: source}, source, batch, steps=steps)

    def ask(self, arm: Arm) -> list[EvaluationItem]:
        """Return the items as this arm is shown them: the same gaps for all, what stands around may differ."""
        key = arm.passages, arm.is_in_one_key, *arm.asks.items()
        if key not in self._questions:
            plan, heard = self.plan, arm.open(self.corpus)
            self._questions[key] = list(
                evaluation_items(
                    heard,
                    split="valid",
                    count=plan.evaluation_items,
                    shapes=plan.shapes,
                    passages=arm.passages,
                    context_tokens=plan.context,
                    **arm.asks,
                )
            )
        return self._questions[key]


def _train(arm: Arm, plan: Plan, run: Run, task: InfillTask, loop: LoopConfig, *, folder: Path, say: Say) -> float:
    """Train to the end and return the seconds of the processor it took, those before an interruption left out."""
    state, job = folder / "state.pt", {"arm": arm.name, **plan.identity()}
    if state.is_file():
        load_state(state, run, job=job)
    began, saved_at = time.process_time(), time.monotonic()
    for progress in train(run, task, loop, device=torch.device("cpu")):
        if progress.step % 25 == 0:
            speed, left = progress.tokens_per_s, progress.eta_s
            say(
                f"{arm.name}: step {progress.step}, {progress.bits_per_note:.2f} bits, {speed:.0f}/s, {left:.0f} s left"
            )
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            save_state(state, run, job=job)
            saved_at = time.monotonic()
    run.model.eval()
    return time.process_time() - began


def flops_per_token(model: nn.Module, task: InfillTask) -> float:
    """Count the products of one step's batches, forward and back, for each token read, padding left out."""
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
    """Return the bits the model gives to the true answer, END included, without the grammar's help."""
    if isinstance(model, CompoundTransformer):
        nats, _ = compound_loss(model, collate_compound([grouped_example(example)]))
    else:
        nats, _ = infill_loss(model, collate([example]))
    return float(nats.sum()) / math.log(2)
