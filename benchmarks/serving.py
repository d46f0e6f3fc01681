"""Latency of a fill over HTTP by stage, and throughput of sixteen callers compared with one caller.

Two kinds of work: the same gap with other seeds, as a musician uses it, and another song each time. The peer is Hugging
Face `generate`, one request at a time: a Llama of the model's size, the same numbers of tokens, on all cores.

    python benchmarks/serving.py [--midi song.mid --bars 9-12 --track 1] [--env RAY_SERVE_ENABLE_HA_PROXY=1]

Starts a complete service with the shipped weights. Without a file, a song is composed.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from parts.live import LiveService
from parts.load import Load
from parts.peers import open_peers

from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.song import Song
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_platform.client import Client
from harmonixr_platform.requests import resolve_region
from harmonixr_platform.schemas import CandidateView, InfillBar, InfillDone, InfillResponse, RegionSpec, SamplingSpec

STAGES = ("ingress", "tokenization", "queue", "prefill", "decode", "splice", "render", "graph")
MODEL = ("queue", "prefill", "decode")
WARM_UP, TARGET_OVERHEAD_MS, TARGET_RATIO, TARGET_PEER_RATIO = 5, 15.0, 2.5, 5.0
# More prompts than the engine caches, so that each one is a cache miss.
SONGS = 96


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--midi", type=Path)
    parser.add_argument("--bars", default="9-12")
    parser.add_argument("--track", type=int, default=1)
    parser.add_argument("--requests", type=int, default=40, help="sequential requests of the latency test")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=15.0, help="duration of each load in each round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the load test")
    parser.add_argument("--env", nargs="*", default=[], metavar="NAME=VALUE", help="environment variables of Ray")
    args = parser.parse_args()
    midi = args.midi.read_bytes() if args.midi else compose_song(7)
    region = RegionSpec(bars=args.bars, tracks=[args.track])
    environment = dict(pair.split("=", 1) for pair in args.env)
    with (
        tempfile.TemporaryDirectory(prefix="hx-serving-") as folder,
        LiveService(Path(folder), environment=environment) as service,
    ):
        print(f"from command to ready: {service.ready_after_s:.1f} s; memory (PSS) {service.memory_mib():.0f} MiB")
        overhead_ms = latency(service, midi, region, requests=args.requests)
        first_bar(service, [(compose_song(1000 + i), region) for i in range(20)])
        ratios = throughput(service, midi, region, args)
    print(f"\noutside the model, p50: {overhead_ms:.0f} ms, target {TARGET_OVERHEAD_MS:.0f}")
    for name, (alone, peer) in ratios.items():
        print(f"{name}, {args.clients} callers: {alone:.1f} times one caller, target {TARGET_RATIO}; ", end="")
        print(f"{peer:.1f} times Hugging Face, target {TARGET_PEER_RATIO:.0f}")
    return 0


def latency(service: LiveService, midi: bytes, region: RegionSpec, *, requests: int) -> float:
    """Print the latency of an idle service by stage; return the median milliseconds outside the model."""
    responses, totals = [], []
    with Client(service.url) as client:
        for i in range(WARM_UP + requests):
            started = time.perf_counter()
            response = client.infill(midi, region, sampling=SamplingSpec(seed=i))
            if i >= WARM_UP:
                responses.append(response)
                totals.append(1000 * (time.perf_counter() - started))
    columns = {stage: [response.timings_ms[stage] for response in responses] for stage in STAGES}
    # The time outside the graph: HTTP, the proxy, and reading the response.
    columns["outside"] = [
        total - response.timings_ms["total"] for total, response in zip(totals, responses, strict=True)
    ]
    columns["outside the model"] = [
        total - sum(response.timings_ms[stage] for stage in MODEL)
        for total, response in zip(totals, responses, strict=True)
    ]
    columns["whole"] = totals
    print(f"\n{requests} sequential fills, ms {'p50':>14}{'p95':>9}")
    for name, values in columns.items():
        print(f"  {name:<30}{statistics.median(values):>10.1f}{percentile(values, 0.95):>9.1f}")
    music_s = statistics.median(music_seconds(response) for response in responses)
    print(f"  real-time factor {statistics.median(totals) / 1000 / music_s:.3f} (fills of {music_s:.1f} s)")
    return statistics.median(columns["outside the model"])


def first_bar(service: LiveService, works: Sequence[tuple[bytes, RegionSpec]]) -> None:
    """Print the time until the first streamed bar, for songs that are not in any cache, and its allowed time."""
    firsts, wholes, allowed, overheads = [], [], [], []
    with Client(service.url) as client:
        for i, (midi, region) in enumerate(works):
            started, first, tokens = time.perf_counter(), 0.0, ()
            for event in client.infill_stream(midi, region, sampling=SamplingSpec(seed=i)):
                if isinstance(event, InfillBar) and not first:
                    first = 1000 * (time.perf_counter() - started)
                elif isinstance(event, CandidateView):
                    tokens = event.tokens[0]
                elif isinstance(event, InfillDone):
                    whole, spent = 1000 * (time.perf_counter() - started), event.timings_ms
                    share = (tokens.index(VOCAB.id("END")) + 1) / len(tokens)
                    wholes.append(whole)
                    firsts.append(first)
                    allowed.append(spent["prefill"] + 1.2 * share * spent["decode"])
                    overheads.append(whole - sum(spent[stage] for stage in MODEL))
    late = [first - limit for first, limit in zip(firsts, allowed, strict=True)]
    print(f"\nstreamed, uncached songs: first bar after {statistics.median(firsts):.0f} ms", end=" ")
    print(
        f"of {statistics.median(wholes):.0f} ms (p50); allowed (prefill and 1.2 times its share of decoding):", end=" "
    )
    print(f"{statistics.median(allowed):.0f} ms, exceeded by {statistics.median(late):.0f} ms;", end=" ")
    print(f"outside the model: {statistics.median(overheads):.0f} ms")


def throughput(
    service: LiveService, midi: bytes, region: RegionSpec, args: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Print the throughput of one caller, of many callers and of the peer; return the ratios by kind of work."""
    kinds = {
        "the same gap": [(midi, region)],
        "another song": [(compose_song(100 + i), RegionSpec(bars="9-12", tracks=[1])) for i in range(SONGS)],
    }
    peer = SequentialPeer(midi, region)
    loads = {(kind, count): Load([]) for kind in kinds for count in (1, args.clients)}
    spent: dict[tuple[str, int], Counter[str]] = {key: Counter() for key in loads}
    fresh = itertools.count()
    for _ in range(args.rounds):
        for (kind, count), so_far in loads.items():
            before = service.cpu_s()
            clients = [Client(service.url) for _ in range(count)]
            requests = [partial(fill_next, client, kinds[kind], fresh) for client in clients]
            with Load(requests, tally=so_far.tally) as load:
                time.sleep(args.seconds)
            so_far.seconds += load.seconds
            spent[kind, count].update(subtracted(service.cpu_s(), before))
            for client in clients:
                client.close()
        peer.run(args.seconds)
    print(f"\n{'work':<16}{'callers':<10}{'requests/min':>14}{'p50':>9}{'p95':>9}{'failed':>8}")
    for (kind, count), load in loads.items():
        done = len(load.tally.times_s)
        times = f"{load.tally.percentile(0.5):>7.2f} s{load.tally.percentile(0.95):>7.2f} s"
        print(f"{kind:<16}{count:<10}{60 * done / load.seconds:>14.0f}{times}{len(load.tally.failures):>8}")
        each = {name: 1000 * seconds / done for name, seconds in sorted(spent[kind, count].items())}
        print("  CPU, ms per request: " + ", ".join(f"{name} {ms:.0f}" for name, ms in each.items() if ms >= 0.5))
    for name, per_minute in peer.per_minute().items():
        print(f"{name + ', sequential':<26}{per_minute:>14.0f}")
    rates = {key: 60 * len(load.tally.times_s) / load.seconds for key, load in loads.items()}
    best = max(peer.per_minute().values(), default=float("nan"))
    many = args.clients
    return {kind: (rates[kind, many] / rates[kind, 1], rates[kind, many] / best) for kind in kinds}


class SequentialPeer:
    """The peer: sequential requests with as many prompt and fill tokens as ours, on all cores.

    It has no grammar, no file and no HTTP.
    """

    def __init__(self, midi: bytes, region: RegionSpec) -> None:
        import torch

        from harmonixr_model.fill.infiller import Infiller, shipped_weights
        from harmonixr_model.fill.session import FillSession
        from harmonixr_model.infill.checkpoint import load_checkpoint

        song = Song.parse(midi)
        config = load_checkpoint(shipped_weights())[0].config
        gap = resolve_region(region, song)
        prompt = FillSession(song, gap, max_length=config.max_length).next_prompt()
        assert prompt is not None
        self._prefix_P = torch.from_numpy(prompt.prefix).long()
        fills = Infiller.load().fill(song, gap, n=8)
        self._tokens = round(statistics.mean(len(window) for fill in fills for window in fill.tokens))
        self._peers = open_peers(config)
        self._times_s: dict[str, list[float]] = {peer.name: [] for peer in self._peers}
        torch.set_num_threads(os.cpu_count() or 1)

    def run(self, seconds: float) -> None:
        """Generate fills for some seconds, divided among the number formats."""
        for peer in self._peers:
            until = time.perf_counter() + seconds / len(self._peers)
            while time.perf_counter() < until:
                started = time.perf_counter()
                peer.generate(self._prefix_P, rows=1, tokens=self._tokens)
                self._times_s[peer.name].append(time.perf_counter() - started)

    def per_minute(self) -> dict[str, float]:
        """Return the requests per minute of each number format."""
        return {name: 60 * len(times_s) / sum(times_s) for name, times_s in self._times_s.items()}


def subtracted(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """Return the seconds since `before`."""
    return {name: seconds - before.get(name, 0.0) for name, seconds in now.items()}


def fill_next(client: Client, works: Sequence[tuple[bytes, RegionSpec]], fresh: Iterator[int]) -> str:
    """Fill the next gap with the next seed; return the version."""
    number = next(fresh)
    midi, region = works[number % len(works)]
    return client.infill(midi, region, sampling=SamplingSpec(seed=number)).model_version


def music_seconds(response: InfillResponse) -> float:
    """Return the duration of the filled bars in seconds."""
    score = Song.parse(base64.b64decode(response.candidates[0].midi_base64)).score
    notes = response.candidates[0].notes
    if not notes:
        return float("nan")
    first = next(bar for bar in reversed(score.bars) if bar.start <= min(note.onset_tick for note in notes))
    last = next(bar for bar in score.bars if bar.end > max(note.onset_tick for note in notes))
    return score.seconds(last.end) - score.seconds(first.start)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    sys.exit(main())
