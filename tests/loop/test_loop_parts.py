"""The parts of the loop: the hidden taste, judging over real HTTP, ranks, resuming, the time left, the report."""

import json
from itertools import combinations
from random import Random

import pytest

from harmonixr_model.music.region import Region
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_platform.cli.progress import progress_bar
from harmonixr_platform.loop.options import FULL, QUICK
from harmonixr_platform.loop.plot import Bar, draw
from harmonixr_platform.loop.progress import STAGES, LoopProgress
from harmonixr_platform.loop.simulated_listener import Taste, groove_similarity, scale_consistency
from harmonixr_platform.loop.stage_results import LoopError, StageResults
from harmonixr_platform.training.composed_gaps import composed_gaps


def in_c_major(bars: int = 6) -> Score:
    """Quarters up and down the scale of C, a bar of four at 480 ticks."""
    pitches = (60, 62, 64, 65, 67, 69, 71, 72)
    notes = tuple(Note(480 * i, 480, pitches[i % 8], 80) for i in range(4 * bars))
    return Score(480, (Track(notes),))


def quarters(*pitches: int) -> dict[int, list[Note]]:
    """A fill of bar 3 in quarters."""
    return {0: [Note(2 * 1920 + 480 * i, 480, pitch, 80) for i, pitch in enumerate(pitches)]}


def test_the_utility_rewards_notes_of_the_scale_and_rhythms_of_the_context():
    score = in_c_major()
    region = Region.bars(score, 2, 2)
    context = region.without(score)
    assert scale_consistency(context, quarters(60, 62, 64, 65)) == 1
    assert scale_consistency(context, quarters(60, 61, 64, 66)) == 0.5
    assert groove_similarity(context, region, quarters(60, 62, 64, 65)) == 1
    # Sixteen positions, two of them in one bar alone.
    assert groove_similarity(context, region, quarters(60, 62)) == pytest.approx(14 / 16)
    taste = Taste()
    good, worse = (taste.utility(score, region, quarters(*p)) for p in ((60, 62, 64, 65), (60, 61)))
    assert good > worse > taste.utility(score, region, {})


def test_replaced_notes_do_not_change_the_utility():
    score = in_c_major()
    region = Region.bars(score, 2, 2)
    emptied = region.without(score)
    fill = quarters(60, 61, 64, 65)
    assert Taste().utility(score, region, fill) == Taste().utility(emptied, region, fill)


def test_preferences_follow_their_probability():
    taste, rng = Taste(noise=0.1, tie_within=0.03), Random(0)
    choices = [taste.choose(0.1, 0.0, rng) for _ in range(4000)]
    decided = [choice for choice in choices if choice != "tie"]
    share = decided.count("first") / len(decided)
    assert share == pytest.approx(taste.chance_first_is_chosen(0.1, 0.0), abs=0.03)
    assert taste.chance_first_is_chosen(0.0, 0.0) == pytest.approx(0.5)


def test_gaps_are_in_different_pieces_and_the_same_for_the_same_seed():
    found = list(composed_gaps(6, seed=5, max_context=512, max_length=1024))
    assert len({gap.piece_id for gap in found}) == 6
    assert found == list(composed_gaps(6, seed=5, max_context=512, max_length=1024))
    others = list(composed_gaps(3, seed=1_000_000, max_context=512, max_length=1024))
    assert not {gap.piece_id for gap in found} & {gap.piece_id for gap in others}


def test_a_stage_runs_once_and_a_folder_has_one_size(tmp_path):
    folder = StageResults(tmp_path, QUICK)
    made = []
    for _ in range(2):
        assert folder.once("fills", lambda: made.append(1) or {"pairs": 3}) == {"pairs": 3}
    assert made == [1]
    with pytest.raises(ZeroDivisionError):
        folder.once("broken", lambda: {"x": 1 / 0})
    assert folder.once("broken", lambda: {"x": 1}) == {"x": 1}
    assert StageResults(tmp_path, QUICK).once("fills", dict) == {"pairs": 3}
    with pytest.raises(LoopError, match="another size"):
        StageResults(tmp_path, FULL)


def test_the_time_left_falls_with_the_work_and_grows_on_a_slow_machine(monkeypatch):
    now = 0.0
    monkeypatch.setattr("tqdm.std.time", lambda: now)

    def seconds_left(slowness: float) -> list[float]:
        nonlocal now
        left = []
        with progress_bar("loop", unit="s") as bar:
            progress = LoopProgress(bar)
            for stage, cost in STAGES.items():
                progress.begin(stage)
                now += cost * slowness
                progress.at(1, 1, "done")
                state = bar.format_dict
                left.append((state["total"] - state["n"]) * state["elapsed"] / (state["n"] - state["initial"]))
        return left

    usual, slow = seconds_left(1), seconds_left(3)
    assert usual == sorted(usual, reverse=True)
    assert usual[0] == pytest.approx(sum(STAGES.values()) - STAGES["fills"])
    assert slow[1] > 2 * usual[1]
    assert usual[-1] == 0


def test_a_stage_of_an_earlier_run_does_not_shorten_the_time_left(monkeypatch):
    now = 0.0
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    with progress_bar("loop", unit="s") as bar:
        progress = LoopProgress(bar)
        for stage in ("fills", "judgments", "reward model"):
            progress.begin(stage)
        now += STAGES["reward model"]
        progress.at(1, 1, "done")
        state = bar.format_dict
    assert (state["n"] - state["initial"]) / state["elapsed"] == pytest.approx(1)


def test_the_plot_is_labelled_as_simulated_and_well_formed():
    from xml.etree import ElementTree

    text = draw(
        title="SIMULATED <listener>",
        scatter=[(0.1, 0.5), (-0.2, -0.4)],
        rho=0.95,
        bars=[Bar("base\nn = 1", 2.4, 2.3, 2.5), Bar("DPO\nn = 1", 2.6, 2.5, 2.7)],
        reliability=[(0.6, 0.55, 10), (0.9, 0.95, 40)],
    )
    assert "SIMULATED" in "".join(ElementTree.fromstring(text).itertext())


def test_simulated_judgments_go_over_http_and_are_labelled(tmp_path):
    import base64
    import hashlib

    from harmonixr_platform.feedback.records.mover import Mover
    from harmonixr_platform.feedback.records.reader import read_feedback
    from harmonixr_platform.loop.judgments import judge_pool
    from harmonixr_platform.loop.pair_pool import put_pairs
    from harmonixr_platform.loop.service import one_process_service
    from harmonixr_platform.schemas import Candidate, SamplingSpec
    from harmonixr_platform.settings import Settings
    from harmonixr_platform.stores.connect import open_object_store

    settings = Settings(state_dir=tmp_path)
    (gap,) = composed_gaps(1, seed=7, max_context=512, max_length=1024)
    store = open_object_store(settings)

    def side(velocity: int) -> Candidate:
        """The piece itself, its gap played louder or softer: the taste cannot tell."""
        from harmonixr_model.music.splice import splice

        notes = [n for n in gap.song.score.tracks[gap.track - 1].notes if gap.region.contains(gap.track - 1, n)]
        louder = {gap.track - 1: [note._replace(velocity=velocity) for note in notes]}
        midi = splice(gap.song, gap.region, louder).midi
        return Candidate(
            model_version=f"v{velocity}",
            checkpoint_sha256="",
            sampling=SamplingSpec(),
            seed=0,
            tokens=((),),
            midi_sha256=hashlib.sha256(midi).hexdigest(),
            midi_base64=base64.b64encode(midi).decode(),
        )

    sides = [side(60), side(70), side(80), side(60)]
    assert put_pairs(store, gap, combinations(sides, 2), pool="loop") == 5
    with one_process_service(settings) as url:
        given = judge_pool(url, pool="loop", count=9, raters=3, taste=Taste(noise=0.0, tie_within=0.01), seed=1)
        mover = Mover.open(settings)
        while mover.run_once():
            pass
        mover.close()
    judged = read_feedback(store).judged
    assert dict(given) == {"tie": 9}
    assert len(judged) == 9
    assert len({item.judgment.rater for item in judged}) == 3
    assert all(item.judgment.simulated for item in judged)
    assert json.dumps([item.outcome for item in judged]).count("tie") == 9
