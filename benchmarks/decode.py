"""Decoding speed, compared with Hugging Face `generate` for a model of the same size in the same run.

    python benchmarks/decode.py --size mini

The weights are random, because the speed does not depend on them. Measurements are interleaved on one thread in CPU
seconds, so other processes affect both sides equally. For our decoder only sampled tokens count, not those that the
grammar forces. The peer samples all of its tokens from a softmax without a grammar.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from parts.peers import HuggingFace, open_peers
from parts.saturation import arrivals, serve

from harmonixr_model.engine.batch import DecodeBatch, PythonBatch
from harmonixr_model.engine.decoder import run_prefill
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.engine.native.library import load_library
from harmonixr_model.engine.native.runner import NativeRunner
from harmonixr_model.engine.native.sampler import NativeSampler
from harmonixr_model.engine.row import Row
from harmonixr_model.engine.selection import open_batch
from harmonixr_model.fill.session import FillSession
from harmonixr_model.infill.config import SIZES, sized
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_model.prompt.layout import InfillPrompt

SAMPLING = Sampling(top_p=0.98)
PARTS = ["decode", "prefill", "share", "saturation"]
TARGETS = {1: 6.0, 8: 3.0, 32: 2.5}


@dataclass
class Contest:
    """The rates of several systems that do the same work in turns."""

    rates: dict[str, list[float]] = field(default_factory=dict)

    def time(self, name: str, work: Callable[[], float]) -> None:
        """Do the work once; `work` returns its amount."""
        started = time.process_time()
        amount = work()
        self.rates.setdefault(name, []).append(amount / (time.process_time() - started))

    def rate(self, name: str) -> float:
        """Return the median amount of work per second."""
        return statistics.median(self.rates[name])

    def line(self, ours: str) -> str:
        """Return the text of every rate, and the ratio of ours to the fastest peer."""
        rates = ", ".join(f"{name} {self.rate(name):,.0f}" for name in self.rates)
        peers = [name for name in self.rates if name.startswith("HF")]
        if not peers:
            return rates
        best = max(peers, key=self.rate)
        ratio = statistics.median(a / b for a, b in zip(self.rates[ours], self.rates[best], strict=True))
        return f"{rates}  -> {ratio:.1f} x {best}"


def main() -> None:
    """Measure and print."""
    args = read_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = random_model(args.size)
    peers = open_peers(model.config)
    if not peers:
        print("transformers is not installed (pip install transformers): our own results only")
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{args.size}, {parameters / 1e6:.1f} M parameters, one thread; tokens/s, medians of {args.rounds} rounds")
    if "decode" in args.parts:
        print_decoding(model, peers, args)
    if "prefill" in args.parts:
        contest = prefill_contest(model, peers, example_prompt(512, 256), rounds=args.rounds * 3)
        print(f"prefill of 512: {contest.line('ours')}")
    if "share" in args.parts:
        for rows in args.batches:
            share, step_s = sampler_share(model, example_prompt(128, 128), rows=rows)
            print(f"batch {rows:2}: grammar and sampling {share:.1%} of a step of {1e3 * step_s:.2f} ms  (target 15%)")
    if "saturation" in args.parts:
        print_saturation(model, requests=args.requests)


def print_decoding(model: InfillTransformer, peers: list[HuggingFace], args: argparse.Namespace) -> None:
    """Print a line for each length and batch size."""
    for prefix, fill in ((128, 128), (512, 256)):
        prompt = example_prompt(prefix, fill)
        for rows in args.batches:
            contest = decode_contest(model, peers, prompt, rows=rows, fill=fill, rounds=args.rounds, eager=args.eager)
            target = f"  (target {TARGETS[rows]:g})" if rows in TARGETS and peers else ""
            print(f"{prefix}+{fill}, batch {rows:2}: {contest.line('ours')}{target}", flush=True)


def read_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="mini")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each system")
    parser.add_argument("--requests", type=int, default=60, help="requests of the saturation test")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--eager", action="store_true", help="also measure our eager path")
    return parser.parse_args()


def random_model(size: str) -> InfillTransformer:
    """Return a model with random block outputs; the blocks of a new model are the identity."""
    model = InfillTransformer(sized(size)).eval()
    for block in model.layers():
        torch.nn.init.normal_(block.attention.out.weight, std=0.02)
        torch.nn.init.normal_(block.feedforward.out.weight, std=0.02)
    return model


def example_prompt(prefix: int, fill: int) -> InfillPrompt:
    """Return the prompt of two bars on two tracks of a composed song, resized to exactly `prefix` tokens.

    The limit of the fill is above `fill` tokens, so that every row can sample as many as are measured.
    """
    song = Song.parse(compose_song(3))
    prompt = FillSession(song, Region.bars(song.score, 8, 9, [0, 1]), max_length=1024).next_prompt()
    assert prompt is not None
    coordinates = np.resize(prompt.coordinates, (prefix, prompt.coordinates.shape[1]))
    tables = replace(prompt.tables, max_tokens=fill + 64)
    return replace(prompt, prefix=np.resize(prompt.prefix, prefix), coordinates=coordinates, tables=tables)


def decode_contest(
    model: InfillTransformer,
    peers: list[HuggingFace],
    prompt: InfillPrompt,
    *,
    rows: int,
    fill: int,
    rounds: int,
    eager: bool,
) -> Contest:
    """Prefill the prompt and sample a fill for each row, in each round again."""
    contest = Contest()
    batches = {"ours": open_batch(model, rows=rows, compiled=True)}
    if eager:
        batches["ours, eager"] = open_batch(model, rows=rows)
    prefix_P = torch.from_numpy(prompt.prefix).long()
    fill_rows(batches["ours"], prompt, rows=1, fill=8, seed=0)  # warm
    for peer in peers:
        peer.generate(prefix_P, rows=1, tokens=8)
    for turn in range(rounds):
        for name, batch in batches.items():
            contest.time(name, partial(fill_rows, batch, prompt, rows=rows, fill=fill, seed=turn))
        for peer in peers:
            contest.time(peer.name, partial(peer.generate, prefix_P, rows=rows, tokens=fill))
    return contest


def fill_rows(batch: DecodeBatch, prompt: InfillPrompt, *, rows: int, fill: int, seed: int) -> int:
    """Sample about `fill` tokens for each row; return the number of sampled tokens, without forced ones."""
    prefix = run_prefill(batch.prefill(prompt))
    running = [Row(prompt, seed * rows + i, SAMPLING) for i in range(rows)]
    for row in running:
        batch.join(row, prefix)
    sampled = 0
    for _ in range(fill):
        sampled += len(batch.rows)
        batch.step()
    for row in list(batch.rows):
        batch.leave(row)
    return sampled


def prefill_contest(
    model: InfillTransformer, peers: list[HuggingFace], prompt: InfillPrompt, *, rounds: int
) -> Contest:
    """Prefill a prompt."""
    contest, batch = Contest(), open_batch(model, rows=1, compiled=True)
    prefix_P = torch.from_numpy(prompt.prefix).long()

    def read() -> int:
        run_prefill(batch.prefill(prompt))
        return len(prompt.prefix)

    for _ in range(rounds):
        contest.time("ours", read)
        for peer in peers:
            contest.time(peer.name, partial(peer.prefill, prefix_P))
    return contest


def sampler_share(model: InfillTransformer, prompt: InfillPrompt, *, rows: int) -> tuple[float, float]:
    """Return the share of grammar and sampling in a step's time, and the median seconds of a step."""
    library = load_library(may_compile=True)
    assert library is not None  # there is a compiler
    # PythonBatch calls the sampler in each step; the library's own loop would not allow to time it.
    sampler = NativeSampler(library, gate=model.copy_gate)
    batch = PythonBatch(NativeRunner(model, library), sampler)
    sample, spent = sampler.sample, 0.0

    def timed(*args: object) -> list[tuple[int, float]]:
        nonlocal spent
        started = time.process_time()
        result = sample(*args)  # type: ignore[arg-type]
        spent += time.process_time() - started
        return result

    sampler.sample = timed  # type: ignore[method-assign]
    prefix = run_prefill(batch.prefill(prompt))
    for seed in range(rows):
        batch.join(Row(prompt, seed, SAMPLING), prefix)
    steps = []
    for _ in range(100):
        started = time.process_time()
        batch.step()
        steps.append(time.process_time() - started)
    return spent / sum(steps), statistics.median(steps)


def print_saturation(model: InfillTransformer, *, requests: int) -> None:
    """Serve a stream of requests one at a time and with continuous batching, at 4 times the rate of one at a time."""
    prompts = [example_prompt(128 + 16 * i, 128) for i in range(4)]
    alone = serve(model, prompts, [0.0] * 8, rows=1)
    times = arrivals(requests, per_s=4 * alone.per_minute / 60)
    one, many = serve(model, prompts, times, rows=1), serve(model, prompts, times, rows=32)
    for name, served in (("one at a time", one), ("continuous", many)):
        print(f"{name}: {served.per_minute:,.0f} requests/min, p50 {served.p50_s:.2f} s, p95 {served.p95_s:.2f} s")
    print(
        f"continuous: {many.per_minute / one.per_minute:.1f} x the requests (target 2), "
        f"{many.p95_s / one.p95_s:.2f} of the p95 (target 0.5)"
    )


if __name__ == "__main__":
    main()
