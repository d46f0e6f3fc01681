"""Simulated raters that judge over the real HTTP API, to make many judgments and to test the quality rules.

All their judgments are labelled as simulated. An honest rater has a utility, which a reward model should learn:

    utility = 3 · (share of the fill's pitched notes in the scale that fits the rest of the song best)
            − 1 · |log((fill's notes + 1) / (notes expected from the density of the same tracks around the gap + 1))|
            + noise (normal, standard deviation `noise`, sampled for each presentation)

The side with the higher utility wins; a difference below `tie_within` is a tie. The other raters behave as the quality
rules should detect: they choose always side a, a random side, or honestly after hearing almost nothing.
"""

from __future__ import annotations

import base64
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import httpx

from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_platform.feedback.errors import FeedbackError, StudyClosed, StudyComplete
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
    """The weights of a simulated rater's utility."""

    scale: float = 3.0
    density: float = 1.0
    noise: float = 0.3
    tie_within: float = 0.1


Kind = Literal["honest", "always_a", "random", "fast"]


@dataclass(frozen=True, slots=True)
class Simulated:
    """One simulated judgment with its receipt and rater."""

    choice: Choice
    receipt: JudgmentReceipt
    rater_key: str = ""
    kind: Kind = "honest"


def simulate(
    api_url: str,
    count: int,
    *,
    pool: str,
    raters: int = 8,
    seed: int = 0,
    taste: Taste | None = None,
    mix: Mapping[Kind, int] | None = None,
) -> Iterator[Simulated]:
    """Request and judge `count` comparisons of a pool or study, as different raters in turn.

    There are `raters` honest raters with the given taste, or `mix` has the number of raters of each kind. There are
    fewer judgments if the study is complete for these raters. Raises FeedbackError if the service does not respond or
    refuses.
    """
    rng = random.Random(seed)
    waiting = _raters(seed, raters, mix)
    made = 0
    with httpx.Client(base_url=api_url, timeout=30) as http:
        while waiting and made < count:
            kind, rater_key = waiting.pop(0)
            request = ComparisonRequest(rater_key=rater_key, pool=pool)
            try:
                view = ComparisonView.model_validate_json(_post(http, "/v1/comparisons", request.model_dump_json()))
            except StudyComplete:
                continue
            except StudyClosed:
                return
            choice = _choice(kind, view, taste or Taste(), rng)
            judgment = JudgmentRequest(
                # Derived from seed and comparison, so that a new run after a failure repeats no vote.
                judgment_id=f"sim-{seed}-{view.comparison_id}",
                comparison_id=view.comparison_id,
                token=view.token,
                rater_key=rater_key,
                choice=choice,
                listening=_listening(kind, view),
                simulated=True,
            )
            receipt = JudgmentReceipt.model_validate_json(_post(http, "/v1/judgments", judgment.model_dump_json()))
            waiting.append((kind, rater_key))
            made += 1
            yield Simulated(choice, receipt, rater_key, kind)


def read_mix(text: str) -> dict[Kind, int]:
    """Parse a text like `honest=6,fast=1`; raise FeedbackError."""
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    mix: dict[Kind, int] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if name not in kinds or not number.isdigit():
            raise FeedbackError(
                f"{part.strip()!r} is no number of raters; write kind=number with the kinds {', '.join(kinds)}"
            )
        mix[kinds[name]] = int(number)
    return mix


def _raters(seed: int, raters: int, mix: Mapping[Kind, int] | None) -> list[tuple[Kind, str]]:
    if mix is None:
        return [("honest", f"simulated-{seed}-{number}") for number in range(raters)]
    return [(kind, f"simulated-{seed}-{kind}-{number}") for kind, many in mix.items() for number in range(many)]


def _choice(kind: Kind, view: ComparisonView, taste: Taste, rng: random.Random) -> Choice:
    if kind == "always_a":
        return Choice.A
    if kind == "random":
        return rng.choice((Choice.A, Choice.B))
    return judge(view, rng, taste=taste)


def _listening(kind: Kind, view: ComparisonView) -> Listening:
    heard = 0.05 if kind == "fast" else 1.0
    return Listening(heard_a=heard, heard_b=heard, seconds=2 * heard * (view.end_s - view.start_s))


def judge(view: ComparisonView, rng: random.Random, *, taste: Taste) -> Choice:
    """Return the choice by utility, with noise."""
    context = Song.parse(base64.b64decode(view.context_base64))
    region = resolve_region(view.region, context)
    a, b = (utility(side.notes, context, region, taste=taste) + rng.gauss(0, taste.noise) for side in (view.a, view.b))
    if abs(a - b) < taste.tie_within:
        return Choice.TIE
    return Choice.A if a > b else Choice.B


def utility(notes: tuple[PlacedNote, ...], context: Song, region: Region, *, taste: Taste) -> float:
    """Return the utility of a fill of `region`, without noise."""
    expected = _expected_notes(context, region)
    sparse_or_crowded = abs(math.log((len(notes) + 1) / (expected + 1)))
    return taste.scale * _in_scale(notes, context) - taste.density * sparse_or_crowded


def _in_scale(notes: tuple[PlacedNote, ...], context: Song) -> float:
    """Return the share of pitched notes in the best-fitting diatonic scale of the context; 1 without any."""
    drums = {index + 1 for index, track in enumerate(context.score.tracks) if track.is_drum}
    pitch_classes = Counter(n.pitch % 12 for t in context.score.tracks if not t.is_drum for n in t.notes)
    tonic = max(range(12), key=lambda t: sum(count for p, count in pitch_classes.items() if (p - t) % 12 in _MAJOR))
    pitched = [note for note in notes if note.track not in drums]
    if not pitched:
        return 1.0
    return sum((note.pitch - tonic) % 12 in _MAJOR for note in pitched) / len(pitched)


def _expected_notes(context: Song, region: Region) -> float:
    """Return the number of notes in the gap at the density of its tracks within one gap length around it."""
    length = region.end - region.start
    around = [
        note
        for index in region.tracks
        for note in context.score.tracks[index].notes
        if region.start - length <= note.onset < region.end + length
    ]
    return len(around) / 2


def _post(http: httpx.Client, path: str, body: str) -> bytes:
    """Post JSON, retrying while the service is busy; raise FeedbackError with its message otherwise."""
    pause_s = 0.5
    for attempt in range(_TRIES):
        try:
            response = http.post(path, content=body, headers={"content-type": "application/json"})
        except httpx.TransportError as error:
            if attempt == _TRIES - 1:
                raise FeedbackError(f"{http.base_url} does not respond ({error}); is the service running?") from error
        else:
            if response.is_success:
                return response.content
            _raise_end(response)
            if response.status_code not in _BUSY or attempt == _TRIES - 1:
                raise FeedbackError(f"{path} responded {response.status_code}: {response.text[:300]}")
            retry_after = response.headers.get("retry-after", "")
            pause_s = max(pause_s, float(retry_after)) if retry_after.isdigit() else pause_s
        time.sleep(pause_s)
        pause_s *= 2
    raise AssertionError("unreachable: the last attempt returns or raises")


def _raise_end(response: httpx.Response) -> None:
    """Raise StudyComplete or StudyClosed if the response is that problem."""
    for kind, name in ((StudyComplete, "study-complete"), (StudyClosed, "study-closed")):
        if response.status_code == kind.status and name in response.text:
            raise kind(response.text[:300])
