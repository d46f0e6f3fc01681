"""The comparison of architectures: text encodes notes exactly, every arm is evaluated on the same gaps."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.evaluation.protocol import evaluation_items
from harmonixr_model.infill.config import sized
from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_model.training.infill_task import BatchConfig
from harmonixr_model.training.loop import LoopConfig


@pytest.fixture(scope="module", autouse=True)
def benchmarks():
    """Make `parts` importable, as for the benchmark scripts."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus.open(write_composed_corpus(tmp_path_factory.mktemp("corpus"), pieces=10))


def test_text_in_seconds_encodes_the_original_exactly(corpus):
    from parts.text_gaps import parse_fill, text_of

    for item in evaluation_items(corpus, split="valid", count=12, shapes=("track-1", "track-4", "all-1", "band")):
        parsed = parse_fill(text_of(item).fill, item)
        assert parsed.valid == parsed.lines == item.notes
        for decoded, notes in zip(parsed.fills, item.original, strict=True):
            assert decoded == tuple(sorted(notes))


def test_lines_without_a_note_of_the_gap_are_invalid(corpus):
    from parts.text_gaps import END, parse_fill, text_of

    (item,) = evaluation_items(corpus, split="valid", count=1, shapes=("track-1",))
    letter = text_of(item).fill[0]
    nonsense = (f"{letter} 999.00 60 0.50 80", "? 0.00 60 0.50 80", f"{letter} 0.00 200 0.50 80", "x y z")
    parsed = parse_fill("\n".join(nonsense) + END + f"\n{letter} 0.00 60 0.50 80", item)
    assert (parsed.lines, parsed.valid) == (4, 0)
    assert not any(parsed.fills)


def test_a_prompt_has_the_notes_nearest_to_the_gap_in_order_of_time(corpus):
    from parts.text_gaps import around_within, text_of

    (item,) = evaluation_items(corpus, split="valid", count=1, shapes=("track-1",))
    gap = text_of(item)
    lines = around_within(gap, 6).removeprefix(gap.header).removesuffix(gap.gap).splitlines()
    assert len(lines) == 6
    onsets = [float(line.split()[1]) for line in lines]
    assert onsets == sorted(onsets)
    left_out = sorted(distance for distance, line in gap.around if line.strip() not in lines)
    shown = [distance for distance, line in gap.around if line.strip() in lines]
    assert max(shown) <= left_out[0]


def test_every_arm_trains_and_is_evaluated_on_the_same_gaps(corpus, tmp_path):
    from parts.arm_report import difference_from_default, plot, tabulate
    from parts.arm_runs import Comparison, Plan
    from parts.arms import ARMS

    plan = Plan(
        model=sized("nano", width=32, layers=2, heads=2, dropout=0.0, max_length=256),
        loop=LoopConfig(steps=3, warmup=1, validate_every=4),
        batch=BatchConfig(batch_tokens=256, micro_tokens=512, validation_examples=1),
        context=256,
        items=8,
    )
    comparison = Comparison(plan, corpus, out=tmp_path, log=lambda _: None)
    arms = [arm for arm in ARMS if not arm.loop and "dropout" not in arm.model]
    made = [comparison.run(arm) for arm in arms]
    gaps = [[(item["number"], item["piece"], item["notes"]) for item in arm["asked"]] for arm in made]
    assert all(found == gaps[0] for found in gaps)
    default, *others = made
    assert difference_from_default(default, default).value == 0
    assert tabulate(default, others).count("\n| ") == len(arms)
    svg = ElementTree.fromstring(plot(default, others))
    assert len(svg.findall("{*}circle")) == len(others)
    assert len({arm["asked"][0]["bits"] for arm in made}) > len(arms) - 3  # almost every arm differs
    assert Comparison(plan, corpus, out=tmp_path, log=print).run(ARMS[0], trains=False) == default
