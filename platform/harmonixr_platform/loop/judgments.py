"""Judge the pairs of a pool as a simulated listener, over the real HTTP API."""

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

# Enough to keep two cores busy. Each rater still judges one pair after the other.
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
    """Judge `count` comparisons of a pool, shared among raters; return the number of each choice.

    Every judgment is labelled as simulated. Raises ServiceError.
    """
    choices: Counter[str] = Counter()
    shares = [count // raters + (number < count % raters) for number in range(raters)]
    with Client(url, api_key=api_key) as client, ThreadPoolExecutor(_THREADS) as threads:

        def judge(rater: int) -> None:
            for choice in _choices(client, pool, rater, shares[rater], taste=taste, seed=seed):
                choices[choice] += 1
                progress(choices.total())

        list(threads.map(judge, range(raters)))
    return choices


def _choices(client: Client, pool: str, rater: int, count: int, *, taste: Taste, seed: int) -> Iterator[str]:
    rng = Random(f"{seed} {rater}")
    key = f"simulated-{seed}-{rater}"
    for _ in range(count):
        view = client.compare(key, pool=pool)
        choice = preferred_side(view, taste, rng)
        # The evidence claims complete listening. Nobody relies on it: the judgment is labelled as simulated.
        listening = Listening(heard_a=1, heard_b=1, seconds=2 * (view.end_s - view.start_s))
        client.judge(view, choice, rater_key=key, listening=listening, simulated=True)
        yield choice.value


def preferred_side(view: ComparisonView, taste: Taste, rng: Random) -> Choice:
    """Return the choice of the simulated listener, with its noise."""
    a, b = (utility_of(view.context_base64, view.region, side.notes, taste) for side in (view.a, view.b))
    return {"first": Choice.A, "second": Choice.B, "tie": Choice.TIE}[taste.choose(a, b, rng)]


def utility_of(context_base64: str, region: RegionSpec, notes: tuple[PlacedNote, ...], taste: Taste) -> float:
    """Return the hidden utility of one side of a comparison."""
    song = _song(context_base64)
    fill: dict[int, list[Note]] = {}
    for n in notes:
        fill.setdefault(n.track - 1, []).append(Note(n.onset_tick, n.duration_ticks, n.pitch, n.velocity))
    return taste.utility(song.score, resolve_region(region, song), fill)


@lru_cache(maxsize=256)
def _song(context_base64: str) -> Song:
    return Song.parse(base64.b64decode(context_base64))
