"""What a fresh service is given, over HTTP: pairs of the bundled examples, and one fill and judgment as a check.

Part of `harmonixr up`; no command of its own.
"""

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


def ensure_pool(client: Client, settings: Settings, *, pool: str, say: Callable[[str], None]) -> int:
    """Make one pair of every bundled example unless the pool has pairs; return how many were made."""
    store = open_object_store(settings)
    pools, pairs = PoolStore(store), PairStore(store)
    try:
        pools.pair_ids(pool)
        return 0
    except UnknownPool:
        names = examples.names()
    for number, name in enumerate(names, 1):
        say(f"making pairs to judge, {number} of {len(names)}")
        midi = examples.load(name)
        region = middle_gap(client.inspect(midi))
        sampling = SamplingSpec(n=2, seed=number).for_comparing()
        answer = client.infill(midi, region, sampling=sampling)
        first, second = (_candidate(view, answer, sampling) for view in answer.candidates)
        pair = make_pair(
            midi, piece_id=f"example-{name}", region=region, controls=ControlSpec(), first=first, second=second
        )
        pools.add(pool, pairs.put(pair).pair_id)
    return len(names)


def check(client: Client, *, pool: str, say: Callable[[str], None], done: Callable[[str], None]) -> None:
    """Do one fill and one judgment; `done` is told of both."""
    say("filling a gap")
    midi = examples.load(CHECKED_EXAMPLE)
    started = time.perf_counter()
    answer = client.infill(midi, RegionSpec(bars="5-8", tracks=[1]), sampling=SamplingSpec(n=2, seed=7))
    seconds = time.perf_counter() - started
    done(
        f"fill: {examples.about(CHECKED_EXAMPLE).title}, bars 5-8, track 1: "
        f"{' and '.join(str(len(c.notes)) for c in answer.candidates)} notes in {seconds:.1f} s "
        f"(model {answer.model_version}, seed {answer.seed})"
    )
    say("judging a pair")
    rater_key = f"check-{secrets.token_hex(8)}"
    comparison = client.compare(rater_key, pool=pool)
    sound = client.sound(comparison.a.audio_url)
    receipt = client.judge(comparison, Choice.A, rater_key=rater_key, listening=Listening(), simulated=True)
    done(
        f"judgment: {receipt.judgment_id} stored: a is better (by a program, and labelled so); "
        f"a was model {receipt.model_a}, b model {receipt.model_b}; {len(sound) // 1000} kB of sound each"
    )


def middle_gap(song: InspectResponse) -> RegionSpec:
    """Return a gap of a few bars in the middle of a song, on the first track that is no drum track."""
    first = max(1, len(song.bars) // 2)
    last = min(len(song.bars), first + GAP_BARS - 1)
    track = next((t.number for t in song.tracks if not t.is_drum), song.tracks[0].number)
    return RegionSpec(bars=f"{first}-{last}", tracks=[track])


def _candidate(view: CandidateView, answer: InfillResponse, sampling: SamplingSpec) -> Candidate:
    return Candidate(
        model_version=answer.model_version,
        checkpoint_sha256=answer.checkpoint_sha256,
        sampling=sampling.model_copy(update={"n": 1, "seed": view.seed}),
        seed=view.seed,
        tokens=view.tokens,
        midi_sha256=hashlib.sha256(base64.b64decode(view.midi_base64)).hexdigest(),
        midi_base64=view.midi_base64,
    )
