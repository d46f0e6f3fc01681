"""Set up a new service for `harmonixr up`, over HTTP: pairs of the bundled examples, and a check with one fill."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable

from harmonixr_model import examples
from harmonixr_platform.client import Client
from harmonixr_platform.feedback.errors import UnknownPool
from harmonixr_platform.feedback.records.pairs import PairStore, make_pair
from harmonixr_platform.feedback.records.pools import PoolStore
from harmonixr_platform.schemas import (
    Candidate,
    CandidateView,
    Choice,
    ControlSpec,
    InfillResponse,
    InspectResponse,
    Listening,
    RegionSpec,
    SamplingSpec,
)
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store

GAP_BARS = 2
CHECKED_EXAMPLE = "minuet-in-g"


def ensure_pool(client: Client, settings: Settings, *, pool: str, show: Callable[[str], None]) -> int:
    """Make one pair of each bundled example unless the pool has pairs; return the number of new pairs."""
    store = open_object_store(settings)
    pools, pairs = PoolStore(store), PairStore(store)
    try:
        pools.pair_ids(pool)
        return 0
    except UnknownPool:
        names = examples.names()
    for number, name in enumerate(names, 1):
        show(f"making pairs to judge, {number} of {len(names)}")
        midi = examples.load(name)
        region = middle_gap(client.inspect(midi))
        sampling = SamplingSpec(n=2, seed=number).for_comparing()
        response = client.infill(midi, region, sampling=sampling)
        first, second = (_candidate(view, response, sampling) for view in response.candidates)
        pair = make_pair(
            midi, piece_id=f"example-{name}", region=region, controls=ControlSpec(), first=first, second=second
        )
        pools.add(pool, pairs.put(pair).pair_id)
    return len(names)


def check(client: Client, *, pool: str, show: Callable[[str], None], done: Callable[[str], None]) -> None:
    """Do one fill and one judgment; call `show` with each step and `done` with each result."""
    show("filling a gap")
    midi = examples.load(CHECKED_EXAMPLE)
    started = time.perf_counter()
    response = client.infill(midi, RegionSpec(bars="5-8", tracks=[1]), sampling=SamplingSpec(n=2, seed=7))
    seconds = time.perf_counter() - started
    done(
        f"fill: {examples.about(CHECKED_EXAMPLE).title}, bars 5-8, track 1: "
        f"{' and '.join(str(len(c.notes)) for c in response.candidates)} notes in {seconds:.1f} s "
        f"(model {response.model_version}, seed {response.seed})"
    )
    show("judging a pair")
    rater_key = f"check-{secrets.token_hex(8)}"
    comparison = client.compare(rater_key, pool=pool)
    sound = client.sound(comparison.a.audio_url)
    receipt = client.judge(comparison, Choice.A, rater_key=rater_key, listening=Listening(), simulated=True)
    done(
        f"judgment: {receipt.judgment_id} stored: a is better (labelled as simulated); "
        f"a was model {receipt.model_a}, b model {receipt.model_b}; {len(sound) // 1000} kB of sound each"
    )


def middle_gap(song: InspectResponse) -> RegionSpec:
    """Return a gap in the middle of a song, on the first pitched track."""
    first = max(1, len(song.bars) // 2)
    last = min(len(song.bars), first + GAP_BARS - 1)
    track = next((t.number for t in song.tracks if not t.is_drum), song.tracks[0].number)
    return RegionSpec(bars=f"{first}-{last}", tracks=[track])


def _candidate(view: CandidateView, response: InfillResponse, sampling: SamplingSpec) -> Candidate:
    return Candidate(
        model_version=response.model_version,
        checkpoint_sha256=response.checkpoint_sha256,
        sampling=sampling.model_copy(update={"n": 1, "seed": view.seed}),
        seed=view.seed,
        tokens=view.tokens,
        midi_sha256=hashlib.sha256(base64.b64decode(view.midi_base64)).hexdigest(),
        midi_base64=view.midi_base64,
    )
