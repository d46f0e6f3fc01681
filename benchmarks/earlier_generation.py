"""Compare our model with an earlier generation: notes as text in seconds, a byte-level BPE, a causal transformer.

    python benchmarks/earlier_generation.py --corpus CORPUS --out RUNS --beside RUNS/prefix-LM--default-

The BPE is trained here on the training pieces with the size of our vocabulary, so both models have the same size. The
transformer is ours with causal attention and without coordinates (rotary positions, SwiGLU), not GPT-2. Both models
have the same number of training tokens and fill the same gaps; `--beside` is a finished arm of
benchmarks/architectures.py. Needs `tokenizers` (extra `bench`). Without `--corpus` it does a short trial run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parts.arm_runs import target_bits
from parts.arms import DEFAULT, find_arm
from parts.text_gaps import END, PAD, SPECIALS, TextGap, around_within, parse_fill, text_of
from tokenizers import ByteLevelBPETokenizer

from harmonixr_model.data.augment import augment
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import DatasetConfig, Example, InfillDataset
from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.evaluation.baselines import copy_bar
from harmonixr_model.evaluation.gap_shapes import SHAPES
from harmonixr_model.evaluation.metrics import Ratio, compare, estimate
from harmonixr_model.evaluation.protocol import evaluation_items, make_item
from harmonixr_model.infill.config import InfillConfig, sized
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.notes.encoded_score import EncodedScore
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.coordinates import COORDINATE_SIZES
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_model.training.infill_task import BatchConfig, InfillTask
from harmonixr_model.training.loop import LoopConfig, new_run, train

SHAPE_NAMES = ("track-1", "track-2", "track-4", "all-1")
MEASURES = ("note F1", "onset F1", "notes generated per hidden note")
BPE_PIECES = 300


def train_bpe(corpus: Corpus) -> ByteLevelBPETokenizer:
    """Train a BPE on gaps of training pieces, with the size of our vocabulary."""
    source = TextSource(corpus, None, context=0)
    texts = (source.text(index, np.random.default_rng((0, index))) for index in range(BPE_PIECES))
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        (around_within(gap, 200) + gap.fill for gap in texts),
        vocab_size=VOCAB.size,
        special_tokens=list(SPECIALS),
        show_progress=False,
    )
    assert bpe.token_to_id(PAD) == 0  # the padding of batches
    return bpe


def prompt_of(gap: TextGap, bpe: ByteLevelBPETokenizer, *, room: int) -> list[int]:
    """Return the prompt with as many notes of the context as fit `room` tokens."""
    # A note has at least four tokens: letter, onset, pitch, duration.
    low, high = 0, min(len(gap.around), room // 4)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(bpe.encode(around_within(gap, middle)).ids) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return list(bpe.encode(around_within(gap, low)).ids)


def as_example(prompt: Sequence[int], fill: Sequence[int], *, predicts_all: bool) -> Example:
    """Return prompt and fill as an example without coordinates; all tokens have a loss, or those of the fill."""
    tokens = np.array([*prompt, *fill], dtype=np.int32)
    coordinates = np.zeros((len(tokens), len(COORDINATE_SIZES)), dtype=np.int16)
    return Example(tokens, coordinates, 1, np.arange(len(tokens)) >= (1 if predicts_all else len(prompt)))


class TextSource:
    """Training examples as text: a gap in a training piece; every token has a loss."""

    def __init__(self, corpus: Corpus, bpe: ByteLevelBPETokenizer | None, *, context: int) -> None:
        self.pieces = InfillDataset(corpus, DatasetConfig())
        self.bpe = bpe
        self.context = context

    def text(self, index: int, rng: np.random.Generator) -> TextGap:
        """Sample a gap in an augmented piece."""
        while True:
            score = augment(self.pieces.encoded(self.pieces.sample_piece(rng)).score, rng)
            full = EncodedScore(score)
            shape = SHAPE_NAMES[int(rng.integers(len(SHAPE_NAMES)))]
            item = make_item(full, SHAPES[shape](full, rng), shape=shape, piece_id="", number=index, passages=0)
            if item is not None:
                return text_of(item)

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return example `index` of training step `step`, deterministically."""
        assert self.bpe is not None
        rng = np.random.default_rng((seed, step, index))
        while True:
            gap = self.text(index, rng)
            fill = self.bpe.encode(gap.fill).ids
            if len(fill) <= self.context // 2:
                break
        prompt = prompt_of(gap, self.bpe, room=self.context - len(fill))
        # The header and the gap are always in the prompt, even if they exceed the room.
        return as_example(prompt, fill, predicts_all=True)


@torch.inference_mode()
def write_fill(
    model: InfillTransformer,
    bpe: ByteLevelBPETokenizer,
    prompt: Sequence[int],
    *,
    room: int,
    temperature: float,
    seed: int,
) -> str:
    """Sample tokens until END, at most `room`; temperature 0 is greedy."""
    generator = torch.Generator().manual_seed(seed)
    cache = model.new_cache(1, len(prompt) + room)
    written: list[int] = []
    no_coordinates = torch.zeros(1, len(prompt), len(COORDINATE_SIZES), dtype=torch.long)
    logits = model.extend(torch.tensor([prompt]), no_coordinates, torch.tensor([0]), cache)[
        0, -1
    ]  # the model is causal
    while len(written) < room:
        token = (
            (logits / temperature).softmax(-1).multinomial(1, generator=generator) if temperature else logits.argmax()
        )
        written.append(int(token))
        if written[-1] == bpe.token_to_id(END):
            break
        position = torch.tensor([len(prompt) + len(written) - 1])
        logits = model.extend(torch.tensor([written[-1:]]), no_coordinates[:, :1], position, cache)[0, -1]
    return str(bpe.decode(written, skip_special_tokens=False))


def train_text_model(
    corpus: Corpus, bpe: ByteLevelBPETokenizer, config: InfillConfig, args: argparse.Namespace
) -> InfillTransformer:
    """Train the text model on as many tokens as the arms of the comparison have."""
    steps = args.tokens // args.batch_tokens
    source = TextSource(corpus, bpe, context=args.context)
    batch = BatchConfig(batch_tokens=args.batch_tokens, micro_tokens=args.batch_tokens, validation_examples=8)
    loop = LoopConfig(steps=steps, learning_rate=args.lr, warmup=max(1, steps // 15), validate_every=steps + 1)
    torch.manual_seed(0)
    model = InfillTransformer(config)
    for progress in train(
        new_run(model, loop),
        InfillTask({args.context: source}, source, batch, steps=steps),
        loop,
        device=torch.device("cpu"),
    ):
        if progress.step % 25 == 0:
            sys.stderr.write(f"step {progress.step}: {progress.loss:.3f} nats per token, {progress.eta_s:.0f} s left\n")
    return model.eval()


def main() -> int:
    """Train the text model unless it exists, evaluate all systems on the same gaps, and print the table."""
    args = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        if args.corpus is None:
            args.corpus = write_composed_corpus(Path(scratch) / "corpus", pieces=16)
            args.tokens, args.width, args.layers, args.items = 8192, 32, 2, 8
        corpus, out = Corpus.open(args.corpus), args.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        bpe = train_bpe(corpus)
        shape = sized("nano", width=args.width, layers=args.layers, heads=args.heads, dropout=0.0)
        plain = replace(shape, max_length=args.context, attending="causal", coordinates=False)
        model = InfillTransformer(plain)
        if (out / "text.pt").is_file():
            model.load_state_dict(torch.load(out / "text.pt"))
        else:
            model = train_text_model(corpus, bpe, plain, args)
            torch.save(model.state_dict(), out / "text.pt")
        ours = find_arm(DEFAULT).build(replace(shape, max_length=args.context))
        assert isinstance(ours, InfillTransformer)
        if args.beside is not None:
            ours.load_state_dict(torch.load(args.beside / "model.pt"))
        made = measure(corpus, bpe, model.eval(), ours.eval(), args)
        (out / "fills.json").write_text(json.dumps(made))
    print(tabulate(made))
    return 0


def measure(
    corpus: Corpus,
    bpe: ByteLevelBPETokenizer,
    text: InfillTransformer,
    ours: InfillTransformer,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Fill every gap with each system; return (piece, part, whole) by measure, and counts of the text."""
    decoder, room = Decoder(ours), args.context // 2
    systems: dict[str, dict[str, list[tuple[str, float, float]]]] = {}
    lines = valid = ended = text_tokens = our_tokens = notes = gaps = 0
    text_bits = our_bits = 0.0
    for item in evaluation_items(
        corpus, split="valid", count=args.items, shapes=SHAPE_NAMES, context_tokens=args.context
    ):
        gap = text_of(item)
        target = bpe.encode(gap.fill).ids
        if len(target) > room:
            continue  # the text model has no room for it; no system fills this gap
        gaps += 1
        prompt = prompt_of(gap, bpe, room=args.context - room)
        text_bits += target_bits(text, as_example(prompt, target, predicts_all=False))
        our_bits += target_bits(ours, item.example())
        seed, temperature = item.number, args.temperature
        written = write_fill(text, bpe, prompt, room=room, temperature=temperature, seed=seed)
        parsed = parse_fill(written, item)
        lines, valid, ended = lines + parsed.lines, valid + parsed.valid, ended + (END in written)
        text_tokens, our_tokens, notes = (
            text_tokens + len(target),
            our_tokens + len(item.fill),
            notes + item.notes,
        )
        (made,) = decoder.generate(item.prompt, seeds=[seed], sampling=Sampling(temperature, top_p=1.0))
        fills = {
            "text in seconds, BPE, causal": parsed.fills,
            "ours (default arm)": decode_fill(item.prompt, made.tokens),
            "copy the bar before": copy_bar(item, "previous"),
        }
        for name, fill in fills.items():
            for measure_name, ratio in compare(item.prompt.cells, item.original, fill, drums=item.drums).items():
                row = systems.setdefault(name, {}).setdefault(measure_name, [])
                row.append((item.piece_id, ratio.part, ratio.whole))
    return {
        "systems": systems,
        "gaps": gaps,
        "text": {"lines": lines, "valid": valid, "ended": ended},
        "tokens_per_note": {"text": text_tokens / max(1, notes), "ours": our_tokens / max(1, notes)},
        "bits_per_note": {"text": text_bits / max(1, notes), "ours": our_bits / max(1, notes)},
    }


def tabulate(made: dict[str, Any]) -> str:
    """Return the table of the measures, with a summary of the text."""
    rows = ["| system | " + " | ".join(MEASURES) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    for name, measures in made["systems"].items():
        cells = []
        for measure_name in MEASURES:
            found = estimate([(piece, Ratio(part, whole)) for piece, part, whole in measures[measure_name]])
            cells.append(f"{found.value:.3f} ({found.low:.3f}–{found.high:.3f})")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    text, length, bits = made["text"], made["tokens_per_note"], made["bits_per_note"]
    share = text["valid"] / text["lines"] if text["lines"] else float("nan")
    rows.append(
        f"\n{made['gaps']} gaps. Of the text model's {text['lines']} lines {share:.0%} are valid notes of the gap; "
        f"{text['ended']} of its fills have an end token (the grammar makes ours always valid). The originals have "
        f"{length['text']:.1f} tokens per note as text and {length['ours']:.1f} in our encoding, and "
        f"{bits['text']:.1f} bits per note with the text model (10 ms), {bits['ours']:.1f} with ours (on the grid)."
    )
    return "\n".join(rows) + "\n"


def parse() -> argparse.Namespace:
    """Parse the command line; the defaults are those of the comparison of architectures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--corpus", type=Path)
    add("--out", type=Path)
    add("--beside", type=Path, help="the folder of a finished arm; without it our model is untrained")
    add("--width", type=int, default=128)
    add("--layers", type=int, default=4)
    add("--heads", type=int, default=2)
    add("--tokens", type=int, default=307_200)
    add("--batch-tokens", type=int, default=1024)
    add("--context", type=int, default=512)
    add("--lr", type=float, default=3e-3)
    add("--items", type=int, default=48)
    add("--temperature", type=float, default=0.8, help="0: greedy for both models")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
