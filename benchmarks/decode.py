"""How fast fills are decoded: tokens a second by batch size, beside no cache, and where a step's time goes.

    python benchmarks/decode.py --size mini --context 512

Random weights: speed does not depend on what was learnt. Times are the processor's, not the wall's, when `--device cpu`
shares the machine with other work.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.infill.config import SIZES, sized
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_model.session import FillSession
from harmonixr_model.tokens.infill import InfillPrompt


class Clock:
    """Seconds of this process on a CPU, of the wall on an accelerator (which is waited for)."""

    def __init__(self, device: str) -> None:
        self._is_cpu = device == "cpu"

    def __call__(self) -> float:
        """Return the time in seconds."""
        if self._is_cpu:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


@dataclass
class Timed:
    """A function that adds up the time spent in it."""

    function: Callable[..., Any]
    clock: Clock
    seconds: float = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function and add to its time."""
        started = self.clock()
        result = self.function(*args, **kwargs)
        self.seconds += self.clock() - started
        return result


def main() -> None:
    """Measure and print."""
    args = read_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock = Clock(args.device)
    model = InfillTransformer(sized(args.size)).to(args.device).eval()
    parameters = sum(weight.numel() for weight in model.parameters())
    prompt = example_prompt(args.context)
    print(f"{args.size}: {parameters / 1e6:.1f} M parameters, fp32, {args.device}, {args.threads} thread(s), eager")
    print(f"context {len(prompt.prefix)} tokens, fill of at most {prompt.rules.max_tokens}, {args.steps} steps")
    print(f"prefill: {len(prompt.prefix) / prefill_seconds(model, prompt, clock):,.0f} tokens/s")
    plain = uncached_rate(model, prompt, clock, steps=max(2, args.steps // 8))
    print(f"batch  1 without a cache: {plain:8,.0f} tokens/s")
    for rows in args.batches:
        rate, model_share = cached_rate(model, prompt, clock, rows=rows, steps=args.steps)
        print(
            f"batch {rows:2} with a cache:    {rate:8,.0f} tokens/s  ({rate / plain:.0f} x without; "
            f"mask, sampling and bookkeeping {1 - model_share:.0%} of a step)"
        )


def read_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="mini")
    parser.add_argument("--context", type=int, default=512, help="tokens that context and fill may take together")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--steps", type=int, default=64, help="steps measured per batch size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def example_prompt(context: int) -> InfillPrompt:
    """Return the prompt of two bars on two tracks of a composed song."""
    song = Song.parse(compose_song(3))
    prompt = FillSession(song, Region.bars(song.score, 8, 9, [0, 1]), max_length=context).next_prompt()
    assert prompt is not None
    return prompt


@torch.inference_mode()
def prefill_seconds(model: InfillTransformer, prompt: InfillPrompt, clock: Clock) -> float:
    """Return how long the context takes to read."""
    device = model.norm.weight.device
    tokens_1P = torch.from_numpy(prompt.prefix)[None].long().to(device)
    coordinates_1P3 = torch.from_numpy(prompt.coordinates)[None].long().to(device)
    cache = model.new_cache(1, tokens_1P.shape[1])
    model.prefill(tokens_1P, coordinates_1P3, cache)  # warm
    started = clock()
    model.prefill(tokens_1P, coordinates_1P3, cache)
    return clock() - started


@torch.inference_mode()
def uncached_rate(model: InfillTransformer, prompt: InfillPrompt, clock: Clock, *, steps: int) -> float:
    """Return tokens a second when every token reads the whole sequence anew; nothing is masked or drawn."""
    device = model.norm.weight.device
    tokens = torch.from_numpy(prompt.prefix)[None].long().to(device)
    coordinates = torch.from_numpy(prompt.coordinates)[None].long().to(device)
    length = torch.tensor([tokens.shape[1]], device=device)
    started = clock()
    for _ in range(steps):
        logits = model(tokens, coordinates, length)[:, -1]
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
        coordinates = torch.cat([coordinates, coordinates[:, -1:]], dim=1)
    return steps / (clock() - started)


def cached_rate(
    model: InfillTransformer, prompt: InfillPrompt, clock: Clock, *, rows: int, steps: int
) -> tuple[float, float]:
    """Return (tokens a second of all rows, the model's share of the time), prefill left out."""
    extend = model.extend
    timed = Timed(extend, clock)
    model.extend = timed  # type: ignore[method-assign]
    try:
        spent = said = 0.0
        seed = 0
        while steps > 0:
            run = Decoder(model).start([(prompt, seed + i) for i in range(rows)], sampling=Sampling(top_p=0.98))
            seed += rows
            before, started = run.said, clock()
            # Rows that finish leave; the batch is refilled before it shrinks much.
            while steps > 0 and run.running > rows * 3 // 4:
                run.step()
                steps -= 1
            spent += clock() - started
            said += run.said - before
        return said / spent, timed.seconds / spent
    finally:
        model.extend = extend  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
