"""The states of the page while a fill is made."""

import asyncio

from harmonixr_platform.schemas import (
    CandidateView,
    InfillAccepted,
    InfillBar,
    InfillDone,
    InfillRequest,
    PlacedNote,
    RegionSpec,
)
from harmonixr_ui.fill_stream import fill_states

REQUEST = InfillRequest(midi_base64="TVRoZA==", region=RegionSpec(bars="5-6", tracks=[1]))


def note(onset):
    return PlacedNote(track=1, onset_tick=onset, duration_ticks=1, onset_s=onset, duration_s=1, pitch=60, velocity=64)


def bar(number, candidate=0):
    return InfillBar(seed=1, candidate=candidate, bar=number, track=1, notes=(note(number),))


def candidate(index):
    return CandidateView(index=index, seed=index, midi_base64="", notes=(), tokens=(), log_probability=0)


DONE = InfillDone(request_id="r", model_version="v", checkpoint_sha256="s", seed=1, timings_ms={})
ACCEPTED = InfillAccepted(request_id="r", model_version="v", seed=1, candidates=2)


def shown(*events, **options):
    async def run():
        async def given():
            for event in events:
                yield event

        return [made async for made in fill_states(REQUEST, given(), **options)]

    return asyncio.run(run())


def test_the_first_fill_grows_bar_by_bar_and_the_response_comes_last():
    first, second, answer = shown(
        ACCEPTED, bar(5), bar(5, candidate=1), bar(6), candidate(1), candidate(0), DONE, pause_s=0
    )
    assert [n["onset_tick"] for n in first["notes"]] == [5]
    assert [n["onset_tick"] for n in second["notes"]] == [5, 6]
    assert (first["bars"], first["tracks"]) == ("5-6", [1])
    assert [c.index for c in answer.candidates] == [0, 1]
    assert answer.model_version == "v"


def test_bars_that_come_fast_are_shown_together():
    first, answer = shown(ACCEPTED, bar(5), bar(6), candidate(0), DONE, pause_s=60)
    assert len(first["notes"]) == 1
    assert answer.request_id == "r"
