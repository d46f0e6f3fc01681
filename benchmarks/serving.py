"""How long a fill takes over HTTP, stage by stage, and what sixteen callers at once get, against one at a time.

    python benchmarks/serving.py [--midi song.mid --bars 9-12 --track 1] [--env RAY_SERVE_ENABLE_HA_PROXY=1]

Starts a whole service of its own, with the shipped weights. Without a file a song is composed.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from parts.live import LiveService
from parts.load import Load

from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.song import Song
from harmonixr_platform.client import Client
from harmonixr_platform.schemas import InfillBar, InfillDone, InfillResponse, RegionSpec, SamplingSpec

STAGES = ("ingress", "tokenization", "queue", "prefill", "decode", "splice", "render", "graph")
MODEL = ("queue", "prefill", "decode")
WARM_UP, OVERHEAD_P50_MS, AIMED_RATIO = 5, 10.0, 2.5


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--midi", type=Path)
    parser.add_argument("--bars", default="9-12")
    parser.add_argument("--track", type=int, default=1)
    parser.add_argument("--requests", type=int, default=40, help="asked one after the other for the latency")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0, help="of load, all at once and again one at a time")
    parser.add_argument("--env", nargs="*", default=[], metavar="NAME=VALUE", help="environment of Ray, to compare")
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
        first_bar(service, midi, region)
        ratio = throughput(service, midi, region, clients=args.clients, seconds=args.seconds)
    print(f"\nnot the model, p50: {overhead_ms:.0f} ms, aimed at {OVERHEAD_P50_MS:.0f}", end="; ")
    print(f"{args.clients} at once: {ratio:.1f} times one at a time, aimed at {AIMED_RATIO}")
    return 0


def latency(service: LiveService, midi: bytes, region: RegionSpec, *, requests: int) -> float:
    """Print where the time of an idle service goes; return the median in milliseconds of what is not the model."""
    answers, totals = [], []
    with Client(service.url) as client:
        for i in range(WARM_UP + requests):
            started = time.perf_counter()
            answer = client.infill(midi, region, sampling=SamplingSpec(seed=i))
            if i >= WARM_UP:
                answers.append(answer)
                totals.append(1000 * (time.perf_counter() - started))
    columns = {stage: [answer.timings_ms[stage] for answer in answers] for stage in STAGES}
    # What the client sees beyond what the graph counts: HTTP, the proxy, and reading the answer.
    columns["outside"] = [total - answer.timings_ms["total"] for total, answer in zip(totals, answers, strict=True)]
    columns["not the model"] = [
        total - sum(answer.timings_ms[stage] for stage in MODEL) for total, answer in zip(totals, answers, strict=True)
    ]
    columns["whole"] = totals
    print(f"\n{requests} fills, one after the other, ms {'p50':>14}{'p95':>9}")
    for name, values in columns.items():
        print(f"  {name:<30}{statistics.median(values):>10.1f}{percentile(values, 0.95):>9.1f}")
    music_s = statistics.median(music_seconds(answer) for answer in answers)
    print(f"  real-time factor {statistics.median(totals) / 1000 / music_s:.3f} (fills of {music_s:.1f} s)")
    return statistics.median(columns["not the model"])


def first_bar(service: LiveService, midi: bytes, region: RegionSpec) -> None:
    """Print when the first streamed bar comes, as a share of the whole."""
    firsts, wholes = [], []
    with Client(service.url) as client:
        for i in range(10):
            started, first = time.perf_counter(), 0.0
            for event in client.infill_stream(midi, region, sampling=SamplingSpec(seed=i)):
                if isinstance(event, InfillBar) and not first:
                    first = time.perf_counter() - started
                if isinstance(event, InfillDone):
                    wholes.append(1000 * (time.perf_counter() - started))
            firsts.append(1000 * first)
    print(f"\nstreamed: first bar after {statistics.median(firsts):.0f} ms of {statistics.median(wholes):.0f} ms (p50)")


def throughput(service: LiveService, midi: bytes, region: RegionSpec, *, clients: int, seconds: float) -> float:
    """Print what many callers at once get and what one at a time gets; return the ratio."""
    rates = {}
    print(f"\n{'callers':<10}{'requests/min':>14}{'p50':>9}{'p95':>9}{'failed':>8}")
    for count in (1, clients):
        before = service.processor_s()
        connections = [Client(service.url) for _ in range(count)]
        with Load([fills(client, midi, region, 10_000 * i) for i, client in enumerate(connections)]) as load:
            time.sleep(seconds)
        tally = load.tally
        rates[count] = 60 * len(tally.took_s) / load.seconds
        times = f"{tally.percentile(0.5):>7.2f} s{tally.percentile(0.95):>7.2f} s"
        print(f"{count:<10}{rates[count]:>14.0f}{times}{len(tally.failures):>8}", flush=True)
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in service.processor_s().items()}
        each = {name: 1000 * seconds / len(tally.took_s) for name, seconds in sorted(spent.items())}
        print("  processor, ms a request: " + ", ".join(f"{name} {ms:.0f}" for name, ms in each.items() if ms >= 0.5))
        for client in connections:
            client.close()
    print(f"{clients} at once: {rates[clients] / rates[1]:.2f} times one at a time")
    return rates[clients] / rates[1]


def fills(client: Client, midi: bytes, region: RegionSpec, seed: int) -> Callable[[], str]:
    """Return what one caller asks, with another seed each time."""
    seeds = itertools.count(seed)
    return partial(ask, client, midi, region, seeds)


def ask(client: Client, midi: bytes, region: RegionSpec, seeds: Iterator[int]) -> str:
    """Fill the gap with the next seed; return the version."""
    sampling = SamplingSpec(seed=next(seeds))
    return client.infill(midi, region, sampling=sampling).model_version


def music_seconds(answer: InfillResponse) -> float:
    """Return how long the filled stretch sounds."""
    score = Song.parse(base64.b64decode(answer.candidates[0].midi_base64)).score
    notes = answer.candidates[0].notes
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
