"""Make the reward model's data from judgments: the compared fills, the outcomes, and the tokens of the fills."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.fill.ranker import FilledWindow
from harmonixr_model.fill.session import FillSession
from harmonixr_model.grammar.fill_grammar import check_fill
from harmonixr_model.music.song import Song
from harmonixr_model.preference.loss import LOSS, TIE, WIN
from harmonixr_model.preference.pairs import RatedPair
from harmonixr_model.prompt.layout import InfillPrompt
from harmonixr_platform.feedback.records.reader import JudgedPair
from harmonixr_platform.requests import attribute_controls_of, constraints_of, resolve_region
from harmonixr_platform.schemas import Candidate, ControlSpec, Pair, RegionSpec

# "Both bad" and a skip contain no preference.
OUTCOMES = {"first": WIN, "second": LOSS, "tie": TIE}


@dataclass(frozen=True, slots=True)
class Fill:
    """A judged fill: its pair and its candidate."""

    pair: Pair
    candidate: Candidate


@dataclass(slots=True)
class Comparisons:
    """The distinct fills and the comparisons of them; `counts` has the comparisons by use or by reason of exclusion."""

    fills: list[Fill] = field(default_factory=list)
    pairs: list[RatedPair] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def pieces(self) -> int:
        """The number of pieces that were compared."""
        return len({pair.piece_id for pair in self.pairs})


def comparisons_of(judged: Iterable[JudgedPair], *, use_simulated: bool) -> Comparisons:
    """Return the comparisons with a preference or a tie. A fill of several pairs is one fill."""
    found = Comparisons()
    rows: dict[tuple[str, ...], int] = {}
    for item in judged:
        if item.judgment.simulated and not use_simulated:
            found.counts["simulated"] += 1
            continue
        if item.comparison.role == "gold":
            # One side of a gold pair is damaged on purpose: it measures the rater, not the model.
            found.counts["gold"] += 1
            continue
        if item.outcome not in OUTCOMES:
            found.counts[item.outcome] += 1
            continue
        first = _row(found, rows, item.pair, item.pair.first)
        second = _row(found, rows, item.pair, item.pair.second)
        rated = RatedPair(
            first,
            second,
            OUTCOMES[item.outcome],
            context_id(item.pair),
            item.pair.piece_id,
            rater=item.judgment.rater,
            versions=(item.pair.first.model_version, item.pair.second.model_version),
        )
        found.pairs.append(rated)
        found.counts["simulated_used" if item.judgment.simulated else "used"] += 1
    return found


def context_id(pair: Pair) -> str:
    """Return the key of a gap: pairs of the same song, region and controls share a context."""
    return f"{pair.context_sha256}:{pair.region.model_dump_json()}:{pair.controls.model_dump_json()}"


def windows_of(fill: Fill, *, max_length: int) -> list[FilledWindow]:
    """Return the prompts of a fill with its tokens; raises HarmonixrError when they do not match."""
    if len(fill.candidate.tokens) == 1:
        (tokens,) = fill.candidate.tokens
        region, controls = fill.pair.region.model_dump_json(), fill.pair.controls.model_dump_json()
        prompt = _only_prompt(fill.pair.context_base64, region, controls, max_length)
        check_fill(prompt.tables, tokens)
        return [FilledWindow(prompt, tokens)]
    session = _session(fill.pair.context_base64, fill.pair.region, fill.pair.controls, max_length)
    windows = []
    for tokens in fill.candidate.tokens:
        prompt_or_none = session.next_prompt()
        if prompt_or_none is None:
            raise HarmonixrError("the stored fill has more windows than the region")
        session.accept(tokens)
        windows.append(FilledWindow(prompt_or_none, tokens))
    return windows


# Consecutive fills are often of the same gap and share its prompt.
@lru_cache(maxsize=4)
def _only_prompt(context_base64: str, region_json: str, controls_json: str, max_length: int) -> InfillPrompt:
    region, controls = RegionSpec.model_validate_json(region_json), ControlSpec.model_validate_json(controls_json)
    session = _session(context_base64, region, controls, max_length)
    prompt = session.next_prompt()
    if prompt is None or len(session.windows) > 1:
        raise HarmonixrError("the stored fill and the region have different windows")
    return prompt


def _session(context_base64: str, region: RegionSpec, controls: ControlSpec, max_length: int) -> FillSession:
    song = Song.parse(base64.b64decode(context_base64))
    return FillSession(
        song,
        resolve_region(region, song),
        max_length=max_length,
        constraints=constraints_of(controls),
        controls=attribute_controls_of(controls),
        field=controls.only,
    )


def _row(found: Comparisons, rows: dict[tuple[str, ...], int], pair: Pair, candidate: Candidate) -> int:
    key = (context_id(pair), candidate.midi_sha256, repr(candidate.tokens))
    if key not in rows:
        rows[key] = len(found.fills)
        found.fills.append(Fill(pair, candidate))
    return rows[key]
