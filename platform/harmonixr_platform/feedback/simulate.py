"""A listener made of a formula, for volume: it asks and answers over the real HTTP API, labelled as simulated.

Its hidden taste, which a reward model should find again, is

    utility = 3 · (share of the fill's pitched notes in the scale that fits the rest of the song best)
            − 1 · |log((fill's notes + 1) / (notes expected from the density of the same tracks around the gap + 1))|
            + noise (normal, standard deviation `noise`, drawn for each hearing)

The side with the higher utility wins; closer than `tie_within` is a tie. Knows no stores and no models.
"""

from __future__ import annotations

import base64
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_platform.feedback.errors import FeedbackError
from harmonixr_platform.requests import resolve_region
from harmonixr_platform.schemas import (
    Choice,
    ComparisonRequest,
    ComparisonView,
    JudgmentReceipt,
    JudgmentRequest,
    Listening,
    PlacedNote,
)

_MAJOR = frozenset((0, 2, 4, 5, 7, 9, 11))
_TRIES = 6
_BUSY = {429, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Taste:
    """How a simulated listener weighs what it hears."""

    scale: float = 3.0
    density: float = 1.0
    noise: float = 0.3
    tie_within: float = 0.1


@dataclass(frozen=True, slots=True)
class Simulated:
    """One simulated answer and what was answered to it."""

    choice: Choice
    receipt: JudgmentReceipt


def simulate(
    api_url: str, count: int, *, pool: str, raters: int = 8, seed: int = 0, taste: Taste | None = None
) -> Iterator[Simulated]:
    """Ask for `count` comparisons of a pool and judge them, as `raters` different raters in turn."""
    taste = taste or Taste()
    rng = random.Random(seed)
    with httpx.Client(base_url=api_url, timeout=30) as http:
        for number in range(count):
            rater_key = f"simulated-{seed}-{number % raters}"
            asked = ComparisonRequest(rater_key=rater_key, pool=pool)
            view = ComparisonView.model_validate_json(_post(http, "/v1/comparisons", asked.model_dump_json()))
            choice = judge(view, rng, taste=taste)
            answer = JudgmentRequest(
                # Of the seed and the comparison, so that running again after a failure repeats no vote.
                judgment_id=f"sim-{seed}-{view.comparison_id}",
                comparison_id=view.comparison_id,
                token=view.token,
                rater_key=rater_key,
                choice=choice,
                listening=Listening(heard_a=1, heard_b=1, seconds=2 * (view.end_s - view.start_s)),
                simulated=True,
            )
            receipt = JudgmentReceipt.model_validate_json(_post(http, "/v1/judgments", answer.model_dump_json()))
            yield Simulated(choice, receipt)


def judge(view: ComparisonView, rng: random.Random, *, taste: Taste) -> Choice:
    """Return which side the formula prefers, noise included."""
    context = Song.parse(base64.b64decode(view.context_base64))
    region = resolve_region(view.region, context)
    a, b = (utility(side.notes, context, region, taste=taste) + rng.gauss(0, taste.noise) for side in (view.a, view.b))
    if abs(a - b) < taste.tie_within:
        return Choice.TIE
    return Choice.A if a > b else Choice.B


def utility(notes: tuple[PlacedNote, ...], context: Song, region: Region, *, taste: Taste) -> float:
    """Return how much the formula likes a fill of `region`, without noise."""
    expected = _expected_notes(context, region)
    sparse_or_crowded = abs(math.log((len(notes) + 1) / (expected + 1)))
    return taste.scale * _in_scale(notes, context) - taste.density * sparse_or_crowded


def _in_scale(notes: tuple[PlacedNote, ...], context: Song) -> float:
    """Return the share of pitched notes in the best-fitting diatonic scale of the context; 1 without any."""
    drums = {index + 1 for index, track in enumerate(context.score.tracks) if track.is_drum}
    heard = Counter(n.pitch % 12 for t in context.score.tracks if not t.is_drum for n in t.notes)
    tonic = max(range(12), key=lambda t: sum(count for p, count in heard.items() if (p - t) % 12 in _MAJOR))
    pitched = [note for note in notes if note.track not in drums]
    if not pitched:
        return 1.0
    return sum((note.pitch - tonic) % 12 in _MAJOR for note in pitched) / len(pitched)


def _expected_notes(context: Song, region: Region) -> float:
    """Return how many notes the gap would hold at the density of its tracks within one gap's length around it."""
    length = region.end - region.start
    around = [
        note
        for index in region.tracks
        for note in context.score.tracks[index].notes
        if region.start - length <= note.onset < region.end + length
    ]
    return len(around) / 2


def _post(http: httpx.Client, path: str, body: str) -> bytes:
    """Post JSON, waiting while the service is busy; raise FeedbackError with what it says otherwise."""
    pause_s = 0.5
    for attempt in range(_TRIES):
        try:
            answer = http.post(path, content=body, headers={"content-type": "application/json"})
        except httpx.TransportError as error:
            if attempt == _TRIES - 1:
                raise FeedbackError(f"{http.base_url} does not answer ({error}); is the service up?") from error
        else:
            if answer.is_success:
                return answer.content
            if answer.status_code not in _BUSY or attempt == _TRIES - 1:
                raise FeedbackError(f"{path} answered {answer.status_code}: {answer.text[:300]}")
        time.sleep(pause_s)
        pause_s *= 2
    raise AssertionError("unreachable: the last attempt returns or raises")
