"""Measure controls: requested and measured values, violations of constraints, and the estimates of chords and keys.

    python benchmarks/controls.py --corpus corpus --model shipped --out docs/controls.md

Parts: harmony (chord and key estimation against labels), limits (every note of 10,000 fills with constraints), follow
(density, polyphony, velocity), chords, tags (bits of the original with style and composer), grid (temperature and top-k
by role). Each part is written when it ends, so an interrupted run keeps its results; OUT.json has them too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.styles import composer_of, style_of
from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import GUIDANCE, Engine, Sampling
from harmonixr_model.errors import ControlError, PromptError
from harmonixr_model.evaluation.adherence import (
    GRIDS,
    chord_adherence,
    measure_adherence,
    measured_control,
    single_control,
    tag_bits,
)
from harmonixr_model.evaluation.breakdown import role_of
from harmonixr_model.evaluation.constraint_checks import sample_constraints, violations
from harmonixr_model.evaluation.harmony import chord_accuracy, composed_accuracies, estimated_key, hand_labelled
from harmonixr_model.evaluation.metrics import Ratio, compare
from harmonixr_model.evaluation.protocol import EvaluationItem, evaluation_items
from harmonixr_model.grammar.constraints import Constraints
from harmonixr_model.infill.checkpoint import load_checkpoint
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose
from harmonixr_model.notes.encoded_score import EncodedScore, GridCell
from harmonixr_model.notes.grid import quantize
from harmonixr_model.prompt.builder import build_prompt
from harmonixr_model.prompt.controls import AttributeControls
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_model.weights import SHIPPED

PARTS = ("harmony", "limits", "follow", "chords", "tags", "grid")
SAMPLING = Sampling()
TEMPERATURES, TOP_KS = (0.6, 0.8, 1.0, 1.2), (0, 10)
ROLES = ("drums", "bass", "chords", "line")
_SONGS = 60  # composed songs of the part `limits`
_FILLS_PER_GAP = 4


@dataclass(frozen=True, slots=True)
class Bench:
    """The model, the corpus and the options of all parts."""

    corpus: Corpus | None
    model: InfillTransformer
    engine: Engine
    items: int
    samples: int
    guidance: float
    info: Mapping[str, Any]

    def was_trained(self, name: str) -> bool:
        """Return whether training had this control; the measurement shows whether the model follows it."""
        return name in self.info.get("controls_said", ())

    def gaps(self, count: int, *, shapes: Sequence[str] = ("track-4",), pitched: bool = False) -> list[EvaluationItem]:
        """Return gaps of held-out pieces; raises SystemExit without a corpus."""
        if self.corpus is None:
            raise SystemExit("this part needs held-out music: give --corpus")
        items = evaluation_items(self.corpus, split="valid", count=6 * count, shapes=shapes, seed=3)
        usable = (item for item in items if not pitched or item.prompt.cells[0].track not in item.drums)
        return list(islice(usable, count))


def harmony(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Measure the chord and key estimates."""
    rows, found = [], {}
    for name, (score, labels, key) in hand_labelled().items():
        one, estimate = chord_accuracy(score, labels), estimated_key(score)
        found[name] = {"exact": one.exact, "root": one.root, "triad": one.triad, "key": estimate == key}
        rows.append([name, f"{one.quarters:.0f}", *_shares(one.exact, one.root, one.triad), str(estimate == key)])
    composed, keys, sections = composed_accuracies(range(40))
    means = [statistics.mean(getattr(one, name) for one in composed) for name in ("exact", "root", "triad")]
    found["composed"] = dict(zip(("exact", "root", "triad"), means, strict=True)) | {"keys": keys, "sections": sections}
    quarters = sum(one.quarters for one in composed)
    rows.append(["40 composed songs", f"{quarters:.0f}", *_shares(*means), f"{keys} of {sections} sections"])
    text = (
        "Chords are estimated over whole pieces and compared with labels, quarter by quarter. The three encoded pieces "
        "were labelled by hand (`harmonixr_model/evaluation/harmony.py`); one constant, the penalty of a chord without "
        "a third, was chosen on them. The labels of composed songs come from the composer.\n\n"
    )
    head = ["piece", "quarters", "all tones right", "root right", "root and third right", "key right"]
    return text + _table(head, rows), found


def limits(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Sample fills with random constraints and check every note."""
    violated: Counter[str] = Counter()
    constrained: Counter[str] = Counter()
    done = refused = notes = 0
    songs = [EncodedScore(quantize(compose(seed, bars=12))) for seed in range(_SONGS)]
    rng = np.random.default_rng(0)
    sampling = Sampling(temperature=1.2, top_p=1.0)
    while done < bench.samples:
        batch: list[tuple[EncodedScore, Constraints, InfillPrompt]] = []
        while len(batch) < min(64, bench.samples - done):
            song, constraints = songs[int(rng.integers(_SONGS))], sample_constraints(rng)
            try:
                context, cells = _random_gap(song, rng)
                prompt = build_prompt(
                    context, cells, max_prefix_tokens=300, constraints=constraints, max_fill_tokens=300
                )
            except (ControlError, PromptError):
                refused += 1
                continue
            batch += [(context, constraints, prompt)] * _FILLS_PER_GAP
        made = bench.engine.generate_each([(p, done + i) for i, (_, _, p) in enumerate(batch)], sampling=sampling)
        for (context, constraints, prompt), fill in zip(batch, made, strict=True):
            fills = decode_fill(prompt, fill.tokens)
            bars = context.score.bars_until(prompt.cells[-1].end)
            violated += violations(context, prompt.cells, fills, constraints, bars=bars)
            constrained.update(_used(constraints))
            notes += sum(map(len, fills))
        done += len(batch)
        _log(f"{done} of {bench.samples} fills, {sum(violated.values())} violations")
    names = ("pitch range", "scale", "polyphony", "minimum notes per bar", "maximum notes per bar", "velocity")
    rows = [[name, str(constrained[name]), str(violated[name])] for name in names]
    rows.append(["onset and pitch within the region", str(done), str(violated["region"])])
    text = (
        f"{done:,} fills with {notes:,} notes in gaps of composed songs, with random constraints, at temperature 1.2 "
        f"without top-k and top-p. {refused:,} other combinations were refused before sampling, with a reason. Every "
        "note is checked independently of the grammar's tables.\n\n"
    )
    return text + _table(["constraint", "fills", "violations"], rows), {
        "fills": done,
        "notes": notes,
        "refused": refused,
        "violations": dict(violated),
    }


def follow(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Request density, polyphony and velocity, and measure them."""
    rows, found = [], {}
    for name in GRIDS:
        gaps = bench.gaps(bench.items, pitched=name == "polyphony")
        originals = [value for gap in gaps if (value := measured_control(gap, gap.original, name)) is not None]
        settings = (
            [(guidance, False) for guidance in dict.fromkeys((1.0, bench.guidance))] if bench.was_trained(name) else []
        )
        for guidance, enforce in (*settings, (1.0, True)):
            key = f"{name}, enforced" if enforce else f"{name}, guidance {guidance:g}"
            _log(key)
            sampling = replace(SAMPLING, guidance=guidance)
            adherence = measure_adherence(bench.engine, gaps, name, sampling=sampling, enforce=enforce)
            means = adherence.means()
            found[key] = {"spearman": adherence.spearman, "pairs": len(adherence.requested), "means": means}
            pairs = ", ".join(f"{value:g} → {mean:.1f}" for value, mean in means.items())
            original = f"{statistics.mean(originals):.1f}"
            rows.append(
                [key, str(len(gaps)), str(len(adherence.requested)), f"{adherence.spearman:.2f}", pairs, original]
            )
    text = (
        "Each value is requested for each gap (one track × 4 bars of held-out pieces), with one fill each. Spearman's "
        "rank correlation is over all pairs of requested and measured values. Density is in notes per quarter; "
        "polyphony is the mean number of simultaneous notes while any note sounds (pitched tracks); velocity is the "
        "mean. The last column is the human original. Enforced values are constraints of the grammar (`--enforce`) and "
        f"need no training. The default guidance with controls is {GUIDANCE:g}.\n\n"
    )
    return text + _table(["control", "gaps", "fills", "Spearman", "requested → mean measured", "original"], rows), found


def chords(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Request the piece's own chords, and the same chords a fourth up, which the context does not suggest."""
    rows, found = [], {}
    gaps = bench.gaps(bench.items, pitched=True)
    for guidance in dict.fromkeys((1.0, bench.guidance)):
        _log(f"chords, guidance {guidance:g}")
        shares = chord_adherence(bench.engine, gaps, sampling=replace(SAMPLING, guidance=guidance))
        found[f"guidance {guidance:g}"] = shares
        rows += [[name, f"{guidance:g}", f"{share:.1%}"] for name, share in shares.items()]
    text = (
        f"The share of the sounding time in which a fill's notes are tones of the current chord, over {len(gaps)} gaps "
        "of one pitched track × 4 bars. With `chord_tones_only` every note is a tone of the chord at its onset, by "
        "construction.\n\n"
    )
    return text + _table(["chords", "guidance", "chord tones"], rows), found


def tags(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Measure the bits of the original with the piece's style and composer, and with wrong ones."""
    assert bench.corpus is not None
    known = {bench.corpus.piece(i).piece_id: bench.corpus.piece(i) for i in bench.corpus.split("valid")}
    styles = Counter(style for piece in known.values() if (style := style_of(piece)))
    composers = Counter(name for piece in known.values() if (name := composer_of(piece)))
    gains: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for gap in bench.gaps(4 * bench.items, shapes=("track-4", "all-2")):
        piece = known[gap.piece_id]
        plain = tag_bits(bench.model, gap, AttributeControls())
        for name, right, all_of in (("style", style_of(piece), styles), ("composer", composer_of(piece), composers)):
            if right is None or len(all_of) < 2:
                continue
            wrong = [other for other in all_of if other != right][: 3 if name == "style" else 2]
            right_bits, *wrong_bits = (tag_bits(bench.model, gap, single_control(name, tag)) for tag in (right, *wrong))
            gains[name].append(
                (plain - right_bits, plain - statistics.mean(wrong_bits), float(right_bits < min(wrong_bits)))
            )
    rows, found = [], {}
    for name, values in gains.items():
        saves, others, best = (statistics.mean(v[i] for v in values) for i in range(3))
        error = statistics.stdev(v[0] - v[1] for v in values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        found[name] = {"gaps": len(values), "right": saves, "wrong": others, "error": error, "right_is_best": best}
        rows.append(
            [
                name,
                str(len(values)),
                f"{saves:+.3f}",
                f"{others:+.3f}",
                f"{saves - others:.3f} ± {error:.3f}",
                f"{best:.0%}",
            ]
        )
    text = (
        "Bits per note of the original that a tag saves, over held-out gaps: the piece's own tag, and other tags of "
        "the split. An ignored tag scores zero in both columns.\n\n"
    )
    head = ["tag", "gaps", "saved by the right tag", "saved by wrong tags", "difference", "right tag is best"]
    return text + _table(head, rows), found


def grid(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Fill gaps of each role at each temperature and top-k."""
    rows, found = [], {}
    by_role: dict[str, list[EvaluationItem]] = {role: [] for role in ROLES}
    for gap in bench.gaps(12 * bench.items, shapes=("track-4", "track-2")):
        role = role_of(gap.context.tracks[gap.prompt.cells[0].track])
        if role in by_role and len(by_role[role]) < bench.items:
            by_role[role].append(gap)
    for role, gaps in by_role.items():
        for temperature, top_k in product(TEMPERATURES, TOP_KS):
            if not gaps:
                continue
            _log(f"grid, {role}, temperature {temperature:g}, top-k {top_k}")
            sums = _compared(bench.engine, gaps, Sampling(temperature=temperature, top_k=top_k, top_p=0.98))
            values = {name: ratio.value for name, ratio in sums.items()}
            found[f"{role} T={temperature:g} k={top_k}"] = values
            names = ("note F1", "onset F1", "pitch-class entropy difference", "groove similarity")
            shown = [f"{values[name]:.3f}" if values[name] == values[name] else "" for name in names]
            rows.append(
                [
                    role,
                    str(len(gaps)),
                    f"{temperature:g}",
                    str(top_k),
                    *shown,
                    f"{values['notes generated per hidden note']:.2f}",
                ]
            )
    text = "One track × 2 or 4 bars of held-out pieces, one fill per gap, top-p 0.98; top-k 0 means no limit.\n\n"
    head = [
        "role",
        "gaps",
        "temperature",
        "top-k",
        "note F1",
        "onset F1",
        "pitch-class entropy difference",
        "groove",
        "notes",
    ]
    return text + _table(head, rows), found


RUNS: dict[str, Callable[[Bench], tuple[str, dict[str, Any]]]] = {
    "harmony": harmony,
    "limits": limits,
    "follow": follow,
    "chords": chords,
    "tags": tags,
    "grid": grid,
}
TITLES = {
    "harmony": "Chord and key estimation",
    "limits": "Constraints",
    "follow": "Density, polyphony and velocity",
    "chords": "Chords",
    "tags": "Style and composer",
    "grid": "Temperature and top-k by role",
}


def _compared(engine: Engine, gaps: Sequence[EvaluationItem], sampling: Sampling) -> dict[str, Ratio]:
    made = engine.generate_each([(gap.prompt, gap.number) for gap in gaps], sampling=sampling)
    sums: dict[str, Ratio] = defaultdict(Ratio)
    for gap, fill in zip(gaps, made, strict=True):
        fills = decode_fill(gap.prompt, fill.tokens)
        for name, ratio in compare(gap.prompt.cells, gap.original, fills, drums=gap.drums).items():
            sums[name] += ratio
    return sums


def _random_gap(song: EncodedScore, rng: np.random.Generator) -> tuple[EncodedScore, list[GridCell]]:
    """Return a gap of one or two bars of one track or two."""
    bars = song.score.bars
    first, count = int(rng.integers(1, len(bars) - 2)), int(rng.integers(1, 3))
    tracks = sorted(rng.choice(len(song.tracks), size=int(rng.integers(1, 3)), replace=False).tolist())
    cells = [GridCell(track, bar.start, bar.end) for bar in bars[first : first + count] for track in tracks]
    return song.without(cells), cells


def _used(constraints: Constraints) -> Iterator[str]:
    if (constraints.pitch_min, constraints.pitch_max) != (0, 127):
        yield "pitch range"
    if constraints.scale is not None:
        yield "scale"
    if constraints.max_polyphony is not None:
        yield "polyphony"
    if constraints.min_notes_per_bar is not None:
        yield "minimum notes per bar"
    if constraints.max_notes_per_bar is not None:
        yield "maximum notes per bar"
    if (constraints.velocity_min, constraints.velocity_max) != (1, 127):
        yield "velocity"


def _shares(*values: float) -> list[str]:
    return [f"{value:.1%}" for value in values]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)]
    return "\n".join(lines) + "\n"


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def write(out: Path, command: str, about: str, texts: dict[str, str]) -> None:
    """Write the page with the finished parts, in the order of PARTS."""
    parts = [f"## {TITLES[part]}\n\n{texts[part]}" for part in PARTS if part in texts]
    intro = "# Controls: requested and measured\n\n" + about + f"\n\nGenerated by\n\n    {command}\n"
    out.write_text("\n".join([intro, *parts]), encoding="utf-8")


def main() -> None:
    """Run the requested parts and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="made by `harmonixr ingest`; the valid split is used")
    parser.add_argument("--model", default="shipped", help="a checkpoint, or `shipped`")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--items", type=int, default=24, help="gaps per measurement")
    parser.add_argument("--samples", type=int, default=10_000, help="fills with constraints")
    parser.add_argument(
        "--guidance", type=float, default=GUIDANCE, help="also measure with this guidance; 1: without guidance only"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="a Markdown page; it keeps parts that are not run again"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = SHIPPED if args.model == "shipped" else Path(args.model)
    model, info = load_checkpoint(path)
    corpus = Corpus.open(args.corpus) if args.corpus else None
    # Ten thousand fills are worth the compilation of the step.
    engine = Decoder(model, compiled=True)
    bench = Bench(corpus, model, engine, args.items, args.samples, args.guidance, info)
    stored = args.out.with_suffix(".json")
    results: dict[str, Any] = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    texts: dict[str, str] = results.get("texts", {})
    millions = {name: info.get(name, 0) / 1e6 for name in ("parameters", "tokens_seen")}
    about = (
        f"Weights: {millions['parameters']:.1f} M parameters, {millions['tokens_seen']:.1f} M tokens in the last run."
    )
    options = f"--items {args.items} --samples {args.samples} --guidance {args.guidance:g}"
    command = f"python benchmarks/controls.py --corpus CORPUS --model {args.model} {options} --out docs/controls.md"
    for part in args.parts:
        started = time.perf_counter()
        texts[part], results[part] = RUNS[part](bench)
        results["texts"] = texts
        write(args.out, command, about, texts)
        stored.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _log(f"{part}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
