"""When a replica's interpreter looks for garbage. Knows nothing of what is served."""

from __future__ import annotations

import gc

# A song that is read makes some five thousand tuples, none of them in a cycle.
_NEW_OBJECTS, _YOUNG_ROUNDS = 20_000, 20


def look_less_often() -> None:
    """Take what is loaded by now out of every later collection, and collect after more new objects than Python does.

    For processes that keep what they have loaded until they end: of what is taken out, cycles are never freed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _YOUNG_ROUNDS, _YOUNG_ROUNDS)
