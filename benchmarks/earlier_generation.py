"""The way of an earlier generation beside ours: notes as text in seconds, a byte-level BPE, a causal transformer.

    python benchmarks/earlier_generation.py --corpus CORPUS --out RUNS --beside RUNS/prefix-LM--default-

Its BPE is trained here on the training pieces, to as many entries as our vocabulary has, so that both models have the
same size; the transformer is our own with the causal switch and no coordinates (rotary positions, SwiGLU), not GPT-2's
very layers. Both read the same number of tokens and are asked the same gaps; `--beside` is a finished arm of
benchmarks/architectures.py. Needs `tokenizers`, which the extra `bench` brings. Without `--corpus` it tries itself.
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

ASKED = ("track-1", "track-2", "track-4", "all-1")
MEASURES = ("note F1", "onset F1", "notes made per note hidden")
BPE_PIECES = 300


def train_bpe(corpus: Corpus) -> ByteLevelBPETokenizer:
    """Learn byte pairs from gaps of training pieces, as many entries as our own vocabulary has."""
    source = TextSource(corpus, None, context=0)
    texts = (source.text(index, np.random.default_rng((0, index))) for index in range(BPE_PIECES))
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        (around_within(gap, 200) + gap.answer for gap in texts),
        vocab_size=VOCAB.size,
        special_tokens=list(SPECIALS),
        show_progress=False,
    )
    assert bpe.token_to_id(PAD) == 0  # what batches are padded with
    return bpe


def prompt_of(gap: TextGap, bpe: ByteLevelBPETokenizer, *, room: int) -> list[int]:
    """Return as many notes around the gap as fit `room` tokens."""
    # No note takes fewer than four tokens: letter, onset, pitch, duration.
    low, high = 0, min(len(gap.around), room // 4)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(bpe.encode(around_within(gap, middle)).ids) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return list(bpe.encode(around_within(gap, low)).ids)


def as_example(prompt: Sequence[int], answer: Sequence[int], *, asks_all: bool) -> Example:
    """Return prompt and answer as an example without coordinates; asked is every token, or the answer's."""
    tokens = np.array([*prompt, *answer], dtype=np.int32)
    nowhere = np.zeros((len(tokens), len(COORDINATE_SIZES)), dtype=np.int16)
    return Example(tokens, nowhere, 1, np.arange(len(tokens)) >= (1 if asks_all else len(prompt)))


class TextSource:
    """Training examples as text: a shape of the protocol in a training piece, every token to be predicted."""

    def __init__(self, corpus: Corpus, bpe: ByteLevelBPETokenizer | None, *, context: int) -> None:
        self.pieces = InfillDataset(corpus, DatasetConfig())
        self.bpe = bpe
        self.context = context

    def text(self, index: int, rng: np.random.Generator) -> TextGap:
        """Draw a gap in a varied piece."""
        while True:
            score = augment(self.pieces.encoded(self.pieces.sample_piece(rng)).score, rng)
            full = EncodedScore(score)
            shape = ASKED[int(rng.integers(len(ASKED)))]
            item = make_item(full, SHAPES[shape](full, rng), shape=shape, piece_id="", number=index, passages=0)
            if item is not None:
                return text_of(item)

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return example `index` of training step `step`; the same arguments give the same one."""
        assert self.bpe is not None
        rng = np.random.default_rng((seed, step, index))
        while True:
            gap = self.text(index, rng)
            answer = self.bpe.encode(gap.answer).ids
            if len(answer) <= self.context // 2:
                break
        prompt = prompt_of(gap, self.bpe, room=self.context - len(answer))
        # The header and what is asked stay, even where they alone take more than the room.
        return as_example(prompt, answer, asks_all=True)


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
    """Draw tokens until END, `room` at most; at temperature 0 take the likeliest."""
    generator = torch.Generator().manual_seed(seed)
    cache = model.new_cache(1, len(prompt) + room)
    written: list[int] = []
    nowhere = torch.zeros(1, len(prompt), len(COORDINATE_SIZES), dtype=torch.long)
    logits = model.extend(torch.tensor([prompt]), nowhere, torch.tensor([0]), cache)[0, -1]  # the model is causal
    while len(written) < room:
        drawn = (
            (logits / temperature).softmax(-1).multinomial(1, generator=generator) if temperature else logits.argmax()
        )
        written.append(int(drawn))
        if written[-1] == bpe.token_to_id(END):
            break
        place = torch.tensor([len(prompt) + len(written) - 1])
        logits = model.extend(torch.tensor([written[-1:]]), nowhere[:, :1], place, cache)[0, -1]
    return str(bpe.decode(written, skip_special_tokens=False))


def learn(
    corpus: Corpus, bpe: ByteLevelBPETokenizer, config: InfillConfig, args: argparse.Namespace
) -> InfillTransformer:
    """Train the text model on as many tokens as the arms of the comparison."""
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
            sys.stderr.write(f"step {progress.step}: {progress.loss:.3f} nats a token, {progress.eta_s:.0f} s left\n")
    return model.eval()


def main() -> int:
    """Train what is not there yet, ask everybody the same, and print the table."""
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
            model = learn(corpus, bpe, plain, args)
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
    """Fill every gap in each way; return each measure's (piece, part, whole), and how long and valid the text is."""
    decoder, room = Decoder(ours), args.context // 2
    systems: dict[str, dict[str, list[tuple[str, float, float]]]] = {}
    lines = valid = ended = text_tokens = our_tokens = notes = asked = 0
    text_bits = our_bits = 0.0
    for item in evaluation_items(corpus, split="valid", count=args.items, shapes=ASKED, context_tokens=args.context):
        gap = text_of(item)
        answer = bpe.encode(gap.answer).ids
        if len(answer) > room:
            continue  # nobody is asked what the text model has no room to say
        asked += 1
        prompt = prompt_of(gap, bpe, room=args.context - room)
        text_bits += target_bits(text, as_example(prompt, answer, asks_all=False))
        our_bits += target_bits(ours, item.example())
        seed, temperature = item.number, args.temperature
        written = write_fill(text, bpe, prompt, room=room, temperature=temperature, seed=seed)
        parsed = parse_fill(written, item)
        lines, valid, ended = lines + parsed.lines, valid + parsed.valid, ended + (END in written)
        text_tokens, our_tokens, notes = (
            text_tokens + len(answer),
            our_tokens + len(item.fill),
            notes + item.notes,
        )
        (made,) = decoder.generate(item.prompt, seeds=[seed], sampling=Sampling(temperature, top_p=1.0))
        fills = {
            "text in seconds, BPE, causal": parsed.fills,
            "ours (default arm)": decode_fill(item.prompt, made.tokens),
            "copy the bar before": copy_bar(item, "previous"),
        }
        drums = [track for track, content in enumerate(item.context.tracks) if content.is_drum]
        for name, fill in fills.items():
            for measure_name, ratio in compare(item.prompt.cells, item.original, fill, drums=drums).items():
                row = systems.setdefault(name, {}).setdefault(measure_name, [])
                row.append((item.piece_id, ratio.part, ratio.whole))
    return {
        "systems": systems,
        "asked": asked,
        "text": {"lines": lines, "valid": valid, "ended": ended},
        "tokens_per_note": {"text": text_tokens / max(1, notes), "ours": our_tokens / max(1, notes)},
        "bits_per_note": {"text": text_bits / max(1, notes), "ours": our_bits / max(1, notes)},
    }


def tabulate(made: dict[str, Any]) -> str:
    """Lay out the systems' measures, and say of the text how much of it was one."""
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
        f"\n{made['asked']} gaps. Of the text model's {text['lines']} lines {share:.0%} say a note of the gap; "
        f"{text['ended']} of its fills ended by themselves (ours: always valid, by the grammar). The true answers take "
        f"{length['text']:.1f} tokens a note as text, {length['ours']:.1f} as ours, and {bits['text']:.1f} bits a note "
        f"from the text model (which says times to 10 ms), {bits['ours']:.1f} from ours (on the grid)."
    )
    return "\n".join(rows) + "\n"


def parse() -> argparse.Namespace:
    """Read the command line; the defaults are those of the comparison of architectures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--corpus", type=Path)
    add("--out", type=Path)
    add("--beside", type=Path, help="the folder of a finished arm; without it ours is untrained too")
    add("--width", type=int, default=128)
    add("--layers", type=int, default=4)
    add("--heads", type=int, default=2)
    add("--tokens", type=int, default=307_200)
    add("--batch-tokens", type=int, default=1024)
    add("--context", type=int, default=512)
    add("--lr", type=float, default=3e-3)
    add("--items", type=int, default=48)
    add("--temperature", type=float, default=0.8, help="0: everybody takes the likeliest token")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
