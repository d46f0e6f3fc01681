"""One fill from file to file: our model, and symusic + MidiTok with Hugging Face `generate`, on one thread.

    python benchmarks/one_fill.py [--midi song.mid --bars 9-12 --track 1] [--rounds 5]

The peer tokenizes the whole song, prefills as many tokens as our prompt has, samples as many as our fill has with a
Llama of the size of our model, and writes a file. Rounds are interleaved; results are medians of CPU times.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import symusic
import torch
from parts.peers import HuggingFace, open_peers

from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.fill.infiller import Infiller, shipped_weights
from harmonixr_model.fill.session import FillSession
from harmonixr_model.infill.checkpoint import load_checkpoint
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.region_text import read_region
from harmonixr_model.music.song import Song


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--midi", type=Path)
    parser.add_argument("--bars", default="9-12")
    parser.add_argument("--track", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    midi = args.midi.read_bytes() if args.midi else compose_song(7)
    model, _ = load_checkpoint(shipped_weights())
    song = Song.parse(midi)
    region = read_region(song, bars=args.bars, tracks=[args.track])
    prompt = FillSession(song, region, max_length=model.config.max_length).next_prompt()
    assert prompt is not None
    read = len(prompt.prefix)
    compiled = Infiller(Decoder(model, compiled=True), max_length=model.config.max_length)
    eager = Infiller.load()
    made = statistics.mean(len(window) for fill in eager.fill(midi, region, n=8) for window in fill.tokens)
    jobs: dict[str, Callable[[int], Any]] = {
        "ours, compiled, bf16": lambda seed: compiled.fill(midi, region, seed=seed),
        "ours, as the command line, fp32": lambda seed: eager.fill(midi, region, seed=seed),
    }
    if find_spec("miditok"):
        for peer in open_peers(model.config):
            whole = WithMidiTok(peer, read=read, made=round(made))
            jobs[f"MidiTok + {peer.name}"] = lambda seed, whole=whole: whole.fill(midi)
    times_s: dict[str, list[float]] = {name: [] for name in jobs}
    for seed in range(args.rounds + 1):
        for name, job in jobs.items():
            started = time.process_time()
            job(seed)
            times_s[name].append(time.process_time() - started)
    print(f"{read} prompt tokens, {made:.0f} fill tokens; CPU time, median of {args.rounds}")
    ours = statistics.median(times_s["ours, compiled, bf16"][1:])
    for name, seconds in times_s.items():
        # The first round is a warm-up.
        median = statistics.median(seconds[1:])
        print(f"{name:<36}{1000 * median:>9.0f} ms{median / ours:>9.1f} times ours")
    return 0


class WithMidiTok:
    """A peer with MidiTok as its tokenizer."""

    def __init__(self, peer: HuggingFace, *, read: int, made: int) -> None:
        from miditok import REMI, TokenizerConfig

        self._tokenizer = REMI(TokenizerConfig(use_programs=True, use_tempos=True, use_time_signatures=True))
        self._peer = peer
        self._read, self._made = read, made

    def fill(self, midi: bytes) -> bytes:
        """Sample a fill and return a file of the prompt; the tokens of random weights are not decoded."""
        ids = self._tokenizer(symusic.Score.from_midi(midi)).ids[: self._read]
        ids += [1] * (self._read - len(ids))
        self._peer.generate(torch.tensor(ids), rows=1, tokens=self._made)
        return bytes(self._tokenizer.decode(ids).dumps_midi())


if __name__ == "__main__":
    sys.exit(main())
