"""MICRO on and off at equal training tokens: what it costs in bits, and whether fills are timed as people time them.

    python benchmarks/micro.py --corpus CORPUS --out RUNS

CORPUS is ingested from performances whose bars mean something, Groove by default (`--sources`); older corpora do not
hold what is compared and are to be ingested again. Both arms run one after the other on one thread; what was
interrupted goes on where it was. Without `--corpus` it tries itself on composed songs, which mean nothing here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from parts.arm_runs import Comparison, Plan
from parts.arms import Arm
from parts.timing_runs import Bits, Measured, ask_bits, draw_fills, jittered, same_gaps

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.evaluation import timing
from harmonixr_model.evaluation.metrics import Estimate, Fills, estimate, margin
from harmonixr_model.evaluation.protocol import EvaluationItem
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.training.composed_corpus import write_composed_corpus

SHAPES = ("track-1", "track-2", "sub-bar", "half-locked")
EXACT_MS, NEAR_MS = 5.0, 25.0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--corpus", type=Path, help="a folder written by `harmonixr ingest`")
    add("--sources", nargs="*", default=["groove"], help="collections of the corpus to learn and ask (none: all)")
    add("--out", type=Path, help="where runs are kept; without it they are thrown away")
    add("--width", type=int, default=128)
    add("--layers", type=int, default=4)
    add("--heads", type=int, default=2)
    add("--tokens", type=int, default=700_000, help="tokens that each arm reads")
    add("--batch-tokens", type=int, default=1024)
    add("--context", type=int, default=512)
    add("--lr", type=float, default=3e-3)
    add("--questions", type=int, default=200)
    add("--seeds", type=int, default=1, help="runs of each arm: what chance alone does")
    add("--samples", type=int, default=2, help="fills drawn of each gap")
    return parser.parse_args()


def main() -> int:
    """Train both arms, ask them the same gaps, and print the tables."""
    args = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        out = args.out or Path(scratch) / "runs"
        if args.corpus is None:
            args.corpus, args.sources = write_composed_corpus(Path(scratch) / "corpus", pieces=16), []
            args.tokens, args.width, args.layers, args.questions = min(args.tokens, 16_384), 32, 2, 24
        print(compare(args, out))
    return 0


def compare(args: argparse.Namespace, out: Path) -> str:
    """Return the tables."""
    corpus = Corpus.open(args.corpus)
    plan = Plan.of(args, shapes=SHAPES)
    comparison = Comparison(plan, corpus, out=out, say=_say)
    pairs = [_pair(args, seed) for seed in range(args.seeds)]
    read = [[comparison.run(arm) for arm in pair] for pair in pairs]
    grid, micro = pairs[0]
    both = same_gaps(comparison.ask(micro), comparison.ask(grid))
    _say(f"{len(both)} gaps are asked of both")
    asked = [question for question, _ in both]
    bits: list[tuple[str, int, Bits]] = []
    systems: dict[str, list[list[Fills]]] = {"what was there": [[question.answer] for question in asked]}
    for pair, made in zip(pairs, read, strict=True):
        for arm, on_grid, result in zip(pair, (True, False), made, strict=True):
            model, questions = _trained(arm, plan, out), [two[on_grid] for two in both]
            bits.append((arm.name, result["tokens"] if result else 0, ask_bits(model, questions)))
            _say(f"drawing fills {arm.name}")
            systems[arm.name] = draw_fills(model, questions, samples=args.samples)
    systems[f"{grid.name}, jittered by chance"] = jittered(systems[grid.name])
    return "\n".join([*_bits_table(bits), "", *_fills_table(asked, systems), "", *_foot(bits)])


def _pair(args: argparse.Namespace, seed: int) -> tuple[Arm, Arm]:
    """Return the arm on the grid and the one off it, of one seed of weights and data."""
    shown: dict[str, object] = {"sources": tuple(args.sources)}
    suffix = f", seed {seed}" if seed else ""
    return (
        Arm(f"on the grid{suffix}", "", data=shown, seed=seed),
        Arm(f"with MICRO{suffix}", "", model={"micro": True}, data={**shown, "micro": True}, seed=seed),
    )


def _trained(arm: Arm, plan: Plan, out: Path) -> InfillTransformer:
    model = arm.build(plan.model)
    assert isinstance(model, InfillTransformer)
    folder = out / "".join(letter if letter.isalnum() else "-" for letter in arm.name)
    model.load_state_dict(torch.load(folder / "model.pt"))
    return model.eval()


def _bits_table(bits: Sequence[tuple[str, int, Bits]]) -> list[str]:
    lines = [
        "| arm | bits a note: what the grid says | against its twin | onset, pitch, duration, velocity "
        "| bits a note: offsets | tokens a note | read |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, (name, read, found) in enumerate(bits):
        gained = offsets = ""
        if number % 2:
            offsets = _cell(found.timing)
            more = margin(found.notes, bits[number - 1][2].notes)
            gained = f"{more.value:+.2f} ({_ends(more, signed=True)})"
        fields = ", ".join(f"{estimate(measured).value:.2f}" for measured in found.by_field.values())
        lines.append(
            f"| {name} | {_cell(found.notes)} | {gained} | {fields} | {offsets} "
            f"| {estimate(found.tokens).value:.1f} | {read / 1e6:.2f} M |"
        )
    return lines


def _fills_table(asked: Sequence[EvaluationItem], systems: dict[str, list[list[Fills]]]) -> list[str]:
    lines = [
        f"| fills | note F1 within {EXACT_MS:.0f} ms | within {NEAR_MS:.0f} ms | deviation histograms overlap "
        "| mean deviation off by (steps) | notes of a step lie apart (ms) |",
        "|---|---|---|---|---|---|",
    ]
    for name, drawn in systems.items():
        each = [(question, fill) for question, fills in zip(asked, drawn, strict=True) for fill in fills]

        def by_time(within_ms: float, each: list[tuple[EvaluationItem, Fills]] = each) -> Measured:
            return [
                (q.piece_id, timing.exact_f1(q.context.score, q.answer, fill, within_ms=within_ms)) for q, fill in each
            ]

        shared = timing.overlap([(q.piece_id, timing.deviations(q.answer), timing.deviations(f)) for q, f in each])
        off_by = [(q.piece_id, timing.mean_deviation_difference(q.answer, fill)) for q, fill in each]
        apart = [(q.piece_id, timing.spread(q.context.score, fill)) for q, fill in each]
        lines.append(
            f"| {name} | {_cell(by_time(EXACT_MS), 3)} | {_cell(by_time(NEAR_MS), 3)} "
            f"| {shared.value:.2f} ({_ends(shared)}) | {_cell(off_by)} | {_cell(apart, 1)} |"
        )
    return lines


def _foot(bits: Sequence[tuple[str, int, Bits]]) -> list[str]:
    found = estimate(bits[0][2].notes)
    lines = [
        f"{found.gaps} gaps of {found.pieces} pieces; intervals of 95 % over pieces. A uniform guess of 25 offsets "
        "takes 4.64 bits.",
        "",
        "| offsets of the true notes guessed by | error (ms) | of notes that join another in their step |",
        "|---|---|---|",
        f"| none, as the grid has it | {_cell(bits[1][2].grid_ms)} | {_cell(bits[1][2].joining_grid_ms)} |",
    ]
    for name, _, measured in bits[1::2]:
        lines.append(f"| {name}: the median | {_cell(measured.guessed_ms)} | {_cell(measured.joining_guessed_ms)} |")
    return [*lines, ""]


def _cell(measured: Measured, digits: int = 2) -> str:
    found = estimate(measured)
    return f"{found.value:.{digits}f} ({_ends(found, digits=digits)})"


def _ends(found: Estimate, *, digits: int = 2, signed: bool = False) -> str:
    if signed:
        return f"{found.low:+.{digits}f} to {found.high:+.{digits}f}"
    return f"{found.low:.{digits}f}–{found.high:.{digits}f}"


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


if __name__ == "__main__":
    raise SystemExit(main())
