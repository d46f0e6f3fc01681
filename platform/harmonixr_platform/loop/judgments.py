"""The simulated listener at work over the real HTTP API: ask for a pair, hear it, answer. Knows no store."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from random import Random

from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_platform.client import Client
from harmonixr_platform.loop.simulated_listener import Taste
from harmonixr_platform.requests import resolve_region
from harmonixr_platform.schemas import Choice, ComparisonView, Listening, PlacedNote, RegionSpec

# As many as keep two cores busy; each rater still answers one pair after the other.
_THREADS = 4


def judge_pool(
    url: str,
    *,
    pool: str,
    count: int,
    raters: int,
    taste: Taste,
    seed: int,
    api_key: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Counter[str]:
    """Ask for `count` comparisons of a pool and answer them, shared among raters; return the answers' counts.

    Every answer is labelled as simulated. Raises ServiceError.
    """
    given: Counter[str] = Counter()
    shares = [count // raters + (number < count % raters) for number in range(raters)]
    tick = _ticker(progress)
    with Client(url, api_key=api_key) as client, ThreadPoolExecutor(_THREADS) as threads:

        def answers(rater: int) -> list[str]:
            return list(_answers(client, pool, rater, shares[rater], taste=taste, seed=seed, tick=tick))

        for said in threads.map(answers, range(raters)):
            given.update(said)
    return given


def _ticker(progress: Callable[[int], None]) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done)

    return tick


def _answers(
    client: Client, pool: str, rater: int, count: int, *, taste: Taste, seed: int, tick: Callable[[], None]
) -> Iterator[str]:
    rng = Random(f"{seed} {rater}")
    key = f"simulated-{seed}-{rater}"
    for _ in range(count):
        view = client.compare(key, pool=pool)
        choice = answer(view, taste, rng)
        # Said as a program: it claims to have heard everything, and nobody takes it for evidence.
        heard = Listening(heard_a=1, heard_b=1, seconds=2 * (view.end_s - view.start_s))
        client.judge(view, choice, rater_key=key, listening=heard, simulated=True)
        tick()
        yield choice.value


def answer(view: ComparisonView, taste: Taste, rng: Random) -> Choice:
    """Return which side the listener prefers, its noise included."""
    a, b = (utility_of(view.context_base64, view.region, side.notes, taste) for side in (view.a, view.b))
    return {"first": Choice.A, "second": Choice.B, "tie": Choice.TIE}[taste.choose(a, b, rng)]


def utility_of(context_base64: str, region: RegionSpec, notes: tuple[PlacedNote, ...], taste: Taste) -> float:
    """Return the hidden utility of a side as it came over the wire."""
    song = _song(context_base64)
    fill: dict[int, list[Note]] = {}
    for n in notes:
        fill.setdefault(n.track - 1, []).append(Note(n.onset_tick, n.duration_ticks, n.pitch, n.velocity))
    return taste.utility(song.score, resolve_region(region, song), fill)


@lru_cache(maxsize=256)
def _song(context_base64: str) -> Song:
    return Song.parse(base64.b64decode(context_base64))
