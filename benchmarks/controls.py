"""Do controls work: what is asked against what comes out, limits that must never break, and the estimates beneath.

    python benchmarks/controls.py --corpus corpus --model shipped --out docs/controls.md

Parts: harmony (chord and key estimation against labels), limits (10,000 fills, every note looked at), follow (density,
polyphony, velocity), chords, tags (bits of the true answer when it is told), grid (temperature and top-k by role).
Each part that ends is written at once, so that an interrupted run keeps what it has; results are also in OUT.json.
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
from harmonixr_model.evaluation.adherence import GRIDS, chord_adherence, measure_adherence, measured_control, tag_bits
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
_SONGS = 60  # composed songs whose gaps the limits are tried on
_FILLS_A_GAP = 4


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part works with."""

    corpus: Corpus | None
    model: InfillTransformer
    engine: Engine
    items: int
    samples: int
    guidance: float
    info: Mapping[str, Any]

    def knows(self, name: str) -> bool:
        """Return whether the weights were told a control in training; whether they follow it is the item."""
        return name in self.info.get("controls_said", ())

    def gaps(self, count: int, *, shapes: Sequence[str] = ("track-4",), pitched: bool = False) -> list[EvaluationItem]:
        """Return gaps of held-out pieces; raises SystemExit without a corpus."""
        if self.corpus is None:
            raise SystemExit("this part asks held-out music: give --corpus")
        asked = evaluation_items(self.corpus, split="valid", count=6 * count, shapes=shapes, seed=3)
        kept = (q for q in asked if not pitched or not q.context.tracks[q.prompt.cells[0].track].is_drum)
        return list(islice(kept, count))


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
        "Chords are estimated over whole pieces and compared quarter by quarter with labels: made by hand for the "
        "three encoded pieces (`harmonixr_model/evaluation/harmony.py`; one constant, the price of a chord without a "
        "third, was chosen on them), known for the composed songs.\n\n"
    )
    head = ["piece", "quarters", "all tones right", "root right", "root and third right", "key right"]
    return text + _table(head, rows), found


def limits(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Draw fills under limits of chance and look at every note."""
    broken: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    done = refused = notes = 0
    songs = [EncodedScore(quantize(compose(seed, bars=12))) for seed in range(_SONGS)]
    rng = np.random.default_rng(0)
    sampling = Sampling(temperature=1.2, top_p=1.0)
    while done < bench.samples:
        batch: list[tuple[EncodedScore, Constraints, InfillPrompt]] = []
        while len(batch) < min(64, bench.samples - done):
            song, wanted = songs[int(rng.integers(_SONGS))], sample_constraints(rng)
            try:
                context, cells = _random_gap(song, rng)
                prompt = build_prompt(context, cells, max_prefix_tokens=300, constraints=wanted, max_fill_tokens=300)
            except (ControlError, PromptError):
                refused += 1
                continue
            batch += [(context, wanted, prompt)] * _FILLS_A_GAP
        made = bench.engine.generate_each([(p, done + i) for i, (_, _, p) in enumerate(batch)], sampling=sampling)
        for (context, wanted, prompt), fill in zip(batch, made, strict=True):
            fills = decode_fill(prompt, fill.tokens)
            bars = context.score.bars_until(prompt.cells[-1].end)
            broken += violations(context, prompt.cells, fills, wanted, bars=bars)
            asked.update(_binding(wanted))
            notes += sum(map(len, fills))
        done += len(batch)
        _say(f"{done} of {bench.samples} fills, {sum(broken.values())} violations")
    names = ("pitch range", "scale", "polyphony", "least notes a bar", "most notes a bar", "velocity")
    rows = [[name, str(asked[name]), str(broken[name])] for name in names]
    rows.append(["onset and pitch within the region", str(done), str(broken["region"])])
    text = (
        f"{done:,} fills with {notes:,} notes of gaps in composed songs, limits drawn by chance, at temperature 1.2 "
        f"with nothing cut off; {refused:,} further combinations were refused before drawing, with a reason. Every "
        "note is judged by itself, without the grammar's tables.\n\n"
    )
    return text + _table(["limit", "fills that ask it", "violations"], rows), {
        "fills": done,
        "notes": notes,
        "refused": refused,
        "violations": dict(broken),
    }


def follow(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Ask for density, polyphony and velocity, and measure them."""
    rows, found = [], {}
    for name in GRIDS:
        gaps = bench.gaps(bench.items, pitched=name == "polyphony")
        truths = [value for gap in gaps if (value := measured_control(gap, gap.original, name)) is not None]
        ways = [(guidance, False) for guidance in dict.fromkeys((1.0, bench.guidance))] if bench.knows(name) else []
        for guidance, enforce in (*ways, (1.0, True)):
            key = f"{name}, enforced" if enforce else f"{name}, guidance {guidance:g}"
            _say(key)
            sampling = replace(SAMPLING, guidance=guidance)
            pairs = measure_adherence(bench.engine, gaps, name, sampling=sampling, enforce=enforce)
            means = pairs.means()
            found[key] = {"spearman": pairs.spearman, "pairs": len(pairs.asked), "means": means}
            asked = ", ".join(f"{value:g} → {mean:.1f}" for value, mean in means.items())
            truth = f"{statistics.mean(truths):.1f}"
            rows.append([key, str(len(gaps)), str(len(pairs.asked)), f"{pairs.spearman:.2f}", asked, truth])
    text = (
        "Each value is asked of each gap (one track × 4 bars of held-out pieces), one fill each; Spearman's rank "
        "correlation is over all pairs of asked and measured. Density is notes a quarter, polyphony the mean number "
        "of notes at once while any sounds (pitched tracks), velocity the mean; the last column is the hidden music. "
        "Enforced means kept by the grammar (`--enforce`), which any model does. Where controls are asked and nothing "
        f"else is said, guidance is {GUIDANCE:g}.\n\n"
    )
    return text + _table(["control", "gaps", "fills", "Spearman", "asked → mean measured", "hidden"], rows), found


def chords(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Ask for chords: the piece's own, and the same a fourth up, which nothing around the gap suggests."""
    rows, found = [], {}
    gaps = bench.gaps(bench.items, pitched=True)
    for guidance in dict.fromkeys((1.0, bench.guidance)):
        _say(f"chords, guidance {guidance:g}")
        shares = chord_adherence(bench.engine, gaps, sampling=replace(SAMPLING, guidance=guidance))
        found[f"guidance {guidance:g}"] = shares
        rows += [[name, f"{guidance:g}", f"{share:.1%}"] for name, share in shares.items()]
    text = (
        f"Share of the sounding time in which a fill's notes are tones of the chord at that time, {len(gaps)} gaps of "
        "one pitched track × 4 bars. With `chord_tones_only` every note begins on a chord tone, by construction.\n\n"
    )
    return text + _table(["chords", "guidance", "chord tones"], rows), found


def tags(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Tell the piece's style and composer, or wrong ones, and see what the true answer costs."""
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
            told = [tag_bits(bench.model, gap, _tagged(name, tag)) for tag in (right, *wrong)]
            gains[name].append((plain - told[0], plain - statistics.mean(told[1:]), float(told[0] < min(told[1:]))))
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
        "Bits per note saved on the true answer of held-out gaps by telling the model the piece's own tag, and by "
        "telling it others of the split; a tag that were ignored would save nothing and differ by nothing.\n\n"
    )
    head = ["tag", "gaps", "right tag saves", "wrong tags save", "difference", "right beats the wrong ones"]
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
            _say(f"grid, {role}, temperature {temperature:g}, top-k {top_k}")
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
                    f"{values['notes made per note hidden']:.2f}",
                ]
            )
    text = "One track × 2 or 4 bars of held-out pieces, one fill a gap, top-p 0.98; top-k 0 keeps all.\n\n"
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
    "limits": "Hard limits",
    "follow": "Density, polyphony and velocity",
    "chords": "Chords",
    "tags": "Style and composer",
    "grid": "Temperature and top-k by role",
}


def _compared(engine: Engine, gaps: Sequence[EvaluationItem], sampling: Sampling) -> dict[str, Ratio]:
    made = engine.generate_each([(gap.prompt, gap.number) for gap in gaps], sampling=sampling)
    sums: dict[str, Ratio] = defaultdict(Ratio)
    for gap, fill in zip(gaps, made, strict=True):
        drums = [i for i, track in enumerate(gap.context.tracks) if track.is_drum]
        fills = decode_fill(gap.prompt, fill.tokens)
        for name, ratio in compare(gap.prompt.cells, gap.original, fills, drums=drums).items():
            sums[name] += ratio
    return sums


def _random_gap(song: EncodedScore, rng: np.random.Generator) -> tuple[EncodedScore, list[GridCell]]:
    """Return a gap of one or two bars of one track or two."""
    bars = song.score.bars
    first, count = int(rng.integers(1, len(bars) - 2)), int(rng.integers(1, 3))
    tracks = sorted(rng.choice(len(song.tracks), size=int(rng.integers(1, 3)), replace=False).tolist())
    cells = [GridCell(track, bar.start, bar.end) for bar in bars[first : first + count] for track in tracks]
    return song.without(cells), cells


def _binding(wanted: Constraints) -> Iterator[str]:
    if (wanted.pitch_min, wanted.pitch_max) != (0, 127):
        yield "pitch range"
    if wanted.scale is not None:
        yield "scale"
    if wanted.max_polyphony is not None:
        yield "polyphony"
    if wanted.min_notes_per_bar is not None:
        yield "least notes a bar"
    if wanted.max_notes_per_bar is not None:
        yield "most notes a bar"
    if (wanted.velocity_min, wanted.velocity_max) != (1, 127):
        yield "velocity"


def _tagged(name: str, tag: str) -> AttributeControls:
    return AttributeControls(style=tag) if name == "style" else AttributeControls(composer=tag)


def _shares(*values: float) -> list[str]:
    return [f"{value:.1%}" for value in values]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)]
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def write(out: Path, command: str, about: str, texts: dict[str, str]) -> None:
    """Write the page with the parts there are, in the order of PARTS."""
    parts = [f"## {TITLES[part]}\n\n{texts[part]}" for part in PARTS if part in texts]
    intro = "# Controls: what is asked, what comes out\n\n" + about + f"\n\nMade by\n\n    {command}\n"
    out.write_text("\n".join([intro, *parts]), encoding="utf-8")


def main() -> None:
    """Run the parts asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="made by `harmonixr ingest`; its valid split is asked")
    parser.add_argument("--model", default="shipped", help="a checkpoint, or `shipped`")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--items", type=int, default=24, help="gaps a measure")
    parser.add_argument("--samples", type=int, default=10_000, help="fills under hard limits")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help="ask with this guidance too; 1: without alone")
    parser.add_argument("--out", type=Path, required=True, help="a Markdown page; parts not run again are kept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = SHIPPED if args.model == "shipped" else Path(args.model)
    model, info = load_checkpoint(path)
    corpus = Corpus.open(args.corpus) if args.corpus else None
    # The compiled step: ten thousand fills earn back its compiler.
    engine = Decoder(model, compiled=True)
    bench = Bench(corpus, model, engine, args.items, args.samples, args.guidance, info)
    kept = args.out.with_suffix(".json")
    results: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
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
        kept.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _say(f"{part}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
