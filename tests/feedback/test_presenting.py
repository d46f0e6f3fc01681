"""A study as listeners meet it: quotas, hidden repeats with swapped sides, gold pairs, several raters a pair."""

import json
import random
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harmonixr_platform.feedback.errors import NoConsent, StudyClosed, StudyComplete
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.reader import JudgedPair, read_feedback
from harmonixr_platform.feedback.reports.flags import flags_of
from harmonixr_platform.feedback.studies.definition import parse_study
from harmonixr_platform.feedback.studies.gold import broken_pair, identical_pair
from harmonixr_platform.feedback.studies.store import BegunStudy, GoldPair, StudyPair
from harmonixr_platform.training.reward_data import comparisons_of

PAIRS = 12


def begin(lab: Any, **changes: Any) -> BegunStudy:
    """Open a study of composed pairs between two arms, with two gold pairs."""
    values = {
        "name": "s",
        "arms": [{"name": "x"}, {"name": "y"}],
        "quotas": {"raters_per_pair": 2, "per_rater": 10},
        "repeats": {"share": 0.25, "after": 2},
        "gold": {"share": 0.25, "pairs": 2},
    }
    pairs = [lab.service.pairs.put(lab.pair(i)) for i in range(PAIRS)]
    broken, expected = broken_pair(pairs[0], random.Random(1))
    equal = identical_pair(pairs[1], random.Random(1))
    begun = BegunStudy(
        study=parse_study(values | changes, source="test"),
        models={"x": "model-x", "y": "model-y"},
        pairs=tuple(StudyPair(pair_id=pair.pair_id, first="x", second="y") for pair in pairs),
        gold=(
            GoldPair(pair_id=lab.service.pairs.put(broken).pair_id, expected=expected),
            GoldPair(pair_id=lab.service.pairs.put(equal).pair_id, expected="tie"),
        ),
        begun=lab.clock(),
    )
    return lab.service.studies.begin(begun)


def listen(lab: Any, rater: str, choose: Any = lambda view: "a") -> int:
    """Judge until the study wants no more of this rater; return how many answers were given."""
    count = 0
    while True:
        try:
            view = lab.compare(rater, "s")
        except StudyComplete:
            return count
        heard = {"heard_a": 1, "heard_b": 1}
        lab.service.record_judgment(lab.judgment(view, choose(view), rater=rater, simulated=True, listening=heard))
        count += 1


def read(lab: Any) -> tuple[JudgedPair, ...]:
    Mover(lab.stream, lab.store).run_once()
    return read_feedback(lab.store).judged


def test_a_rater_gets_the_studys_quota_and_sees_the_progress(lab: Any) -> None:
    begin(lab)
    first = lab.compare("rater-one", "s")
    assert (first.progress.done, first.progress.total) == (0, 10)
    lab.service.record_judgment(lab.judgment(first, rater="rater-one", simulated=True))
    assert lab.compare("rater-one", "s").progress.done == 1
    assert listen(lab, "rater-two") == 10
    with pytest.raises(StudyComplete, match="the 10 pairs") as caught:
        lab.compare("rater-two", "s")
    assert caught.value.status == 409


def test_a_repeat_swaps_the_sides_and_is_not_recognisable(lab: Any) -> None:
    begin(lab)
    views = {}
    for number in range(4):
        listen(lab, f"rater-{number}xx", lambda view: views.setdefault(view.comparison_id, view) and "a")
    judged = {one.comparison.comparison_id: one.comparison for one in read(lab)}
    repeats = [comparison for comparison in judged.values() if comparison.role == "repeat"]
    assert len(repeats) > 2
    for repeat in repeats:
        first = judged[repeat.repeats]
        assert (first.rater, first.pair_id, first.role) == (repeat.rater, repeat.pair_id, "plain")
        assert first.swapped is not repeat.swapped
        assert views[repeat.comparison_id].a.midi_base64 == views[repeat.repeats].b.midi_base64
    keys = {frozenset(_keys(view.model_dump(mode="json"))) for view in views.values()}
    assert len(keys) == 1
    text = json.dumps([view.model_dump(mode="json") for view in views.values()])
    assert not any(word in text for word in ("repeat", "gold", "expected", "propensity", "broken", "model-x"))


def test_no_receipt_of_a_study_names_a_model(lab: Any) -> None:
    begin(lab)
    receipts = []
    for number in range(3):
        rater = f"rater-{number}xx"
        while True:
            try:
                view = lab.compare(rater, "s")
            except StudyComplete:
                break
            receipts.append(lab.service.record_judgment(lab.judgment(view, rater=rater, simulated=True)))
    assert {one.comparison.expected for one in read(lab) if one.comparison.role == "gold"} >= {"tie"}
    assert {(receipt.model_a, receipt.model_b) for receipt in receipts} == {(None, None)}


def test_a_rater_with_several_windows_is_shown_each_pair_once_and_no_more_than_the_quota(lab: Any) -> None:
    begin(lab)
    start = threading.Barrier(4)

    def compare(_: int) -> str | None:
        start.wait()
        try:
            return lab.compare("rater-onexx", "s").comparison_id
        except StudyComplete:
            return None

    shown = []
    with ThreadPoolExecutor(4) as windows:
        while None not in shown:
            shown += windows.map(compare, range(4))
    history = lab.service._log.history("s", lab.service._signer.pseudonym("rater-onexx"))
    assert {one.comparison_id for one in history} == {one for one in shown if one}
    heard = [one.pair_id for one in history if one.role != "repeat"]
    assert len(set(heard)) == len(heard)
    assert 4 <= len(history) <= lab.service.studies.get("s").study.quotas.per_rater


def test_gold_pairs_are_not_in_the_reward_models_data(lab: Any) -> None:
    begin(lab)
    for number in range(3):
        listen(lab, f"rater-{number}xx")
    judged = read(lab)
    gold = sum(one.comparison.role == "gold" for one in judged)
    found = comparisons_of(judged, use_simulated=True)
    assert found.counts["gold"] == gold > 0
    assert all(fill.candidate.model_version in ("model-x", "model-y") for fill in found.fills)


def test_pairs_are_judged_by_enough_raters_before_new_ones_open_each_presentation_once(lab: Any) -> None:
    begin(lab, repeats={"share": 0}, gold={"share": 0}, quotas={"raters_per_pair": 2, "per_rater": 6})
    raters_of: dict[str, list[str]] = defaultdict(list)
    for number in range(6):
        rater = f"rater-{number}xx"
        listen(lab, rater)
        for one in read(lab):
            if one.judgment.rater == lab.service._signer.pseudonym(rater):
                raters_of[one.pair.pair_id].append(one.judgment.rater)
        owed = [pair for pair, raters in raters_of.items() if len(raters) < 2]
        # Only what one listener alone could not finish may wait for the next.
        assert len(owed) <= 6
    assert all(len(set(raters)) == len(raters) for raters in raters_of.values())
    assert sorted(len(raters) for raters in raters_of.values()) == [3] * PAIRS
    judged = read(lab)
    assert len({one.comparison.comparison_id for one in judged}) == len(judged) == 36


def test_every_comparison_records_study_arms_and_propensity(lab: Any) -> None:
    begun = begin(lab)
    listen(lab, "rater-one")
    for one in read(lab):
        assert one.comparison.study == begun.study.version
        assert 0 < one.comparison.propensity <= 1
        assert one.comparison.arms == (None if one.comparison.role == "gold" else ("x", "y"))


def test_a_study_ends_after_its_judgments_or_when_it_is_closed(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harmonixr_platform.feedback.studies.presenter._CACHE_S", 0.0)
    begin(lab, repeats={"share": 0}, gold={"share": 0}, stopping={"most_judgments": 3})
    for _ in range(3):
        lab.service.record_judgment(lab.judgment(lab.compare("rater-one", "s"), rater="rater-one", simulated=True))
    with pytest.raises(StudyClosed, match="3 judgments") as caught:
        lab.compare("rater-two", "s")
    assert caught.value.status == 410
    closed = lab.service.studies.close("s", reason="enough", now=lab.clock())
    assert lab.service.studies.close("s", reason="later", now=lab.clock()) == closed
    with pytest.raises(StudyClosed, match="ended: enough"):
        lab.compare("rater-two", "s")


def test_skipped_and_retracted_pairs_are_not_repeated(lab: Any) -> None:
    begin(lab, repeats={"share": 0.5, "after": 1}, gold={"share": 0}, quotas={"raters_per_pair": 1, "per_rater": 12})
    skipped = Counter[bool]()
    for number in range(12):
        view = lab.compare("rater-one", "s")
        answer = lab.judgment(view, "skip" if number % 2 else "a", rater="rater-one", simulated=True)
        lab.service.record_judgment(answer)
        if number == 0:
            lab.service.retract(answer.judgment_id, rater_key="rater-one")
    Mover(lab.stream, lab.store).run_once()
    judged = {one.comparison.comparison_id: one for one in read_feedback(lab.store).judged}
    for one in judged.values():
        if one.comparison.repeats is not None:
            skipped[judged[one.comparison.repeats].outcome == "skip"] += 1
    assert skipped[True] == 0 < skipped[False]


def test_a_persons_judgment_in_a_study_needs_consent(lab: Any) -> None:
    begin(lab, consent="2", gold={"share": 0}, repeats={"share": 0})
    view = lab.compare("rater-one", "s")
    lab.clock.pass_(seconds=60)
    heard = [(view.start_s, view.end_s)]
    shared = {"rater": "rater-one", "listening": {"intervals_a": heard, "intervals_b": heard}}
    for consent in (None, {"version": "1", "given": lab.clock()}):
        with pytest.raises(NoConsent) as caught:
            lab.service.record_judgment(lab.judgment(view, consent=consent, **shared))
        assert caught.value.status == 422
    agreed = lab.judgment(view, consent={"version": "2", "given": lab.clock()}, **shared)
    assert lab.service.record_judgment(agreed).stored
    (one,) = read(lab)
    assert (one.judgment.consent.version, one.judgment.listening.heard_a) == ("2", 1.0)


def test_raters_who_always_choose_a_are_flagged_and_honest_ones_are_not(lab: Any) -> None:
    """Sides are drawn by a fair coin, gold pairs have an answer and repeats swap sides: each rule sees it."""
    begin(lab, quotas={"raters_per_pair": 2, "per_rater": 20}, repeats={"share": 0.25, "after": 1})
    rng = random.Random(2)

    def hears(view: Any) -> str:
        if view.a.midi_base64 == view.b.midi_base64:
            return "tie"
        # Broken fills are loud and soft by turns; among the others a taste of one's own that holds on a swapped side.
        spread = [len({note.velocity for note in side.notes}) for side in (view.a, view.b)]
        if spread[0] != spread[1]:
            return "a" if spread[0] < spread[1] else "b"
        better = sum(note.pitch for note in view.a.notes) > sum(note.pitch for note in view.b.notes)
        return "a" if better == (rng.random() < 0.95) else "b"

    listen(lab, "always-a")
    listen(lab, "who-listens", hears)
    listen(lab, "who-listens-too", hears)
    Mover(lab.stream, lab.store).run_once()
    feedback = read_feedback(lab.store)
    flags = flags_of(feedback, now=lab.clock())
    rater_of = {one.judgment.judgment_id: one.judgment.rater for one in feedback.judged}
    named = {(rater_of[flag.judgment_id], flag.rule) for flag in flags}
    always = lab.service._signer.pseudonym("always-a")
    assert {rater for rater, _ in named} == {always}
    assert "one_side" in {rule for _, rule in named}
    assert all(flag.rule_version >= 1 for flag in flags)


def _keys(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [key for name, inner in value.items() for key in [f"{path}.{name}", *_keys(inner, f"{path}.{name}")]]
    return []
