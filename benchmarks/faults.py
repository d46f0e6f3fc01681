"""Failed requests of the shipped client during faults of the service.

    python benchmarks/faults.py [--clients 4] [--only Model redis]

Starts a complete service. Under a steady load, replicas are killed, everything is redeployed, models are promoted and
rolled back, and Redis stops for ten seconds. At the end the service stops during a request. Exits with status 1 if any
request failed.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from parts.live import LiveService
from parts.load import Load

from harmonixr_model import examples
from harmonixr_platform.client import Client, ServiceError
from harmonixr_platform.registry import Lineage, Registry, open_registry
from harmonixr_platform.schemas import (
    CandidateView,
    Choice,
    InfillAccepted,
    InfillDone,
    InfillRequest,
    RegionSpec,
    SamplingSpec,
)
from harmonixr_platform.settings import Settings

MINUET = examples.load("minuet-in-g")
GAP = RegionSpec(bars="5-6", tracks=[1])
KILLED = ("Model", "Tokenization", "Decoding", "Feedback", "Ingress")
BEFORE_S, AFTER_S, REDIS_OUTAGE_S = 3.0, 4.0, 10.0


def main() -> int:
    """Cause every fault in turn; return 1 if a request failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--only", nargs="*", metavar="FAULT", default=[])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hx-faults-") as folder, LiveService(Path(folder)) as service:
        print(
            f"ready after {service.ready_after_s:.0f} s; {args.clients} clients fill, stream and judge continuously\n"
        )
        print(f"{'fault':<34}{'requests':>9}{'failed':>8}{'longest':>10}   versions")
        failed = 0
        for name, fault in faults(service).items():
            if not args.only or any(name.startswith(chosen) for chosen in args.only):
                failed += trial(service, name, fault, clients=args.clients)
        if not args.only or "stop" in args.only:
            failed += stop_with_work(service)
    return 1 if failed else 0


def faults(service: LiveService) -> dict[str, Callable[[], object]]:
    """Return the faults by name."""
    registry = open_registry(Settings(state_dir=service.folder))
    return {
        **{f"{name} killed": partial(service.kill, name) for name in KILLED},
        "redeploy of every replica": lambda: redeploy(service),
        "promotion, rollback": lambda: promote_and_roll_back(registry, service.folder),
        "canary by user_config": lambda: start_canary(service),
        "redis stopped for ten seconds": lambda: service.interrupt_redis(REDIS_OUTAGE_S),
    }


def trial(service: LiveService, name: str, fault: Callable[[], object], *, clients: int) -> int:
    """Cause a fault under load; print and return the number of failed requests."""
    with open_clients(service, clients) as requests, Load(requests) as load:
        time.sleep(BEFORE_S)
        fault()
        done = len(load.tally.times_s)
        # Wait until the service responds to every client again, and a little longer.
        while len(load.tally.times_s) < done + 3 * clients and not load.tally.failures:
            time.sleep(0.1)
        time.sleep(AFTER_S)
    tally = load.tally
    versions = ", ".join(f"{version} {count}" for version, count in tally.versions.most_common())
    longest = max(tally.times_s, default=float("nan"))
    total = len(tally.times_s) + len(tally.failures)
    print(f"{name:<34}{total:>9}{len(tally.failures):>8}{longest:>8.1f} s   {versions}", flush=True)
    for failure in tally.failures[:3]:
        print(f"    {failure}", flush=True)
    return len(tally.failures)


@contextmanager
def open_clients(service: LiveService, count: int) -> Iterator[list[Callable[[], str]]]:
    """Yield the request functions of `count` clients: a quarter streams, a quarter judges, the others fill."""
    kinds = itertools.cycle((fill, stream, fill, judge))
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(service.url)) for _ in range(count)]
        yield [partial(kind, client) for kind, client in zip(kinds, clients, strict=False)]


def fill(client: Client) -> str:
    """Fill a gap; return the model version."""
    return client.infill(MINUET, GAP, sampling=SamplingSpec(seed=random.getrandbits(32))).model_version


def stream(client: Client) -> str:
    """Fill a gap as a stream, which must be complete."""
    events = list(client.infill_stream(MINUET, GAP, sampling=SamplingSpec(seed=random.getrandbits(32), n=2)))
    is_complete = isinstance(events[0], InfillAccepted) and isinstance(events[-1], InfillDone)
    if not is_complete or sum(isinstance(event, CandidateView) for event in events) != 2:
        raise ServiceError("the stream was not complete", status=200)
    return events[-1].model_version if isinstance(events[-1], InfillDone) else ""


def judge(client: Client) -> str:
    """Compare two fills and judge them as equal."""
    request = InfillRequest(midi_base64=base64.b64encode(MINUET).decode(), region=GAP)
    comparison = client.compare("a-rater-of-the-benchmark", infill=request)
    receipt = client.judge(comparison, Choice.TIE, rater_key="a-rater-of-the-benchmark", simulated=True)
    if not receipt.stored:
        raise ServiceError("the judgment was not stored", status=200)
    return "judgments"


def redeploy(service: LiveService) -> None:
    """Deploy with another argument, and wait until every replica is replaced."""
    before = {name: set(service.replicas(name)) for name in ("Ingress", "Model", "Decoding")}
    service.deploy(args={"retry_after_s": 2})
    deadline = time.monotonic() + 300
    while any(before[name] & set(service.replicas(name)) for name in before):
        if time.monotonic() > deadline:
            raise TimeoutError("not every replica was replaced")
        time.sleep(0.2)


def second_version(registry: Registry, folder: Path) -> str:
    """Register and return a second version: the shipped weights with another note."""
    from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint

    champion = registry.versions("infill")[0]
    model, _ = load_checkpoint(registry.fetch(champion))
    path = folder / "second.safetensors"
    save_checkpoint(path, model, info={"note": "a second version of the same weights"})
    return registry.register("infill", path, Lineage(note="benchmark")).version


def promote_and_roll_back(registry: Registry, folder: Path) -> None:
    """Promote another version, and roll back."""
    registry.promote("infill", second_version(registry, folder))
    time.sleep(20)
    registry.rollback("infill")
    time.sleep(15)


def start_canary(service: LiveService) -> None:
    """Send all requests to the challenger, and then none."""
    registry = open_registry(Settings(state_dir=service.folder))
    registry.promote("infill", second_version(registry, service.folder), alias="challenger")
    # All clients have the same address and count as one caller, so the canary gets the whole share.
    service.deploy(user_config={"champion": "champion", "canary": "challenger", "canary_share": 1.0})
    time.sleep(20)
    service.deploy(user_config={"champion": "champion"})
    time.sleep(15)


def stop_with_work(service: LiveService) -> int:
    """Stop the graph during a long fill; print and return the number of failures."""
    failures: list[str] = []

    def send() -> None:
        with Client(service.url, attempts=1) as client:
            try:
                client.infill(MINUET, RegionSpec(bars="1-16"), sampling=SamplingSpec(seed=1, n=16))
            except ServiceError as error:
                failures.append(str(error))

    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(1.0)
    started = time.monotonic()
    service.finish()
    took_s = time.monotonic() - started
    thread.join()
    print(f"{'stopped during a long fill':<34}{1:>9}{len(failures):>8}{took_s:>8.1f} s")
    for failure in failures:
        print(f"    {failure}")
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
