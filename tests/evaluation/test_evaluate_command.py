"""The whole evaluation with a tiny model: bits, seeds, reports and the command."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch

from harmonixr_model.data.collate import collate
from harmonixr_model.engine.decoder import Decoder
from harmonixr_model.engine.engine import Sampling
from harmonixr_model.evaluation.gallery import choose, to_html
from harmonixr_model.evaluation.likelihood import BITS, target_bits
from harmonixr_model.evaluation.markdown import to_markdown
from harmonixr_model.evaluation.protocol import evaluation_items, hide_future
from harmonixr_model.evaluation.report import ReportedFill, evaluate
from harmonixr_model.evaluation.systems import (
    SampledFills,
    System,
    best_of_systems,
    future_hidden_system,
    greedy_system,
    model_system,
)
from harmonixr_model.infill.checkpoint import save_checkpoint
from harmonixr_model.infill.config import sized
from harmonixr_model.infill.loss import infill_loss
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.fill_tokens import decode_fill
from harmonixr_platform.cli import main


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return InfillTransformer(sized("nano", width=32, layers=1, heads=2, max_length=1024)).eval()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, model, info={})
    return path


def items_of(corpus, count, *shapes):
    return list(evaluation_items(corpus, split="valid", count=count, shapes=shapes))


def test_bits_are_those_of_the_model_s_own_distribution_one_token_at_a_time(corpus, model):
    [item] = items_of(corpus, 1, "half-locked")
    example = item.example()
    tokens = torch.from_numpy(example.tokens).long()[None]
    coordinates = torch.from_numpy(example.coordinates).long()[None]
    with torch.inference_mode():
        logits = model(tokens, coordinates, torch.tensor([example.prefix_length]))[0].log_softmax(-1)
    predicted = range(example.prefix_length, len(example.tokens))
    nats = -sum(float(logits[t - 1, tokens[0, t]]) for t in predicted if example.loss_mask[t])
    assert target_bits(model, item) == pytest.approx(nats / math.log(2), rel=1e-4)


def test_a_model_trained_on_the_originals_needs_fewer_bits(corpus, model):
    items = items_of(corpus, 2, "track-1")
    learner = copy.deepcopy(model)
    optimiser = torch.optim.Adam(learner.parameters(), lr=1e-2)
    batch = collate([item.example() for item in items])
    for _ in range(6):
        optimiser.zero_grad()
        infill_loss(learner, batch)[0].mean().backward()
        optimiser.step()
    assert sum(target_bits(learner, item) for item in items) < 0.8 * sum(target_bits(model, item) for item in items)


def test_the_same_items_give_the_same_report(corpus, model):
    items = items_of(corpus, 2, "track-1", "sub-bar")
    system = model_system(model, SampledFills(Decoder(model), 2, Sampling()))
    one, two = (evaluate(items, [system], made={}) for _ in range(2))
    assert one.to_json() == two.to_json()
    assert one.value("model", "note F1").gaps == 4  # two fills of two gaps


def test_the_best_of_several_fills_is_one_of_them_and_greedy_is_deterministic(corpus, model):
    [item] = items_of(corpus, 1, "track-1")
    sampled = SampledFills(Decoder(model), 4, Sampling())
    [best] = best_of_systems(sampled)
    assert best.name == "model, best of 4 by likelihood"
    assert best.fills(item)[0] in sampled.fills(item)
    each = [made.log_probability / len(made.tokens) for made in sampled.generated(item)]
    assert len(set(each)) == 4
    [greedy], [again] = (greedy_system(Decoder(model)).fills(item) for _ in range(2))
    assert greedy == again


def test_margins_pair_gaps_however_many_fills_each_has(corpus, model):
    items = items_of(corpus, 2, "track-1")
    twice = System("twice", fills=lambda item: [item.original, item.original])
    once = System("once", fills=lambda item: [item.original])
    report = evaluate(items, [twice, once], made={})
    assert report.margins["note F1"]["once"].value == 0
    assert report.value("twice", "diversity among fills").value == 0
    assert "100 %" in to_markdown(report, by=["role"])
    assert "## Note F1 by role" in to_markdown(report, by=["role"])


def test_the_original_stays_the_same_if_the_future_is_hidden(corpus, model):
    for item in items_of(corpus, 6, "track-1", "all-2"):
        hidden = hide_future(item)
        end = max(cell.end for cell in item.prompt.cells)
        assert all(note.onset < end for track in hidden.context.tracks for note in track.notes)
        assert hidden.original == item.original
        assert decode_fill(hidden.prompt, hidden.fill) == decode_fill(item.prompt, item.fill)
        assert future_hidden_system(model).bits(item)[BITS] == target_bits(model, hidden)


def test_margins_are_paired_and_the_page_has_pictures_and_sound_of_its_fills(corpus, model):
    items = items_of(corpus, 4, "track-1")
    truth = System("truth", fills=lambda item: [item.original])
    silence = System("silence", fills=lambda item: [[() for _ in item.original]])
    report = evaluate(items, [truth, silence], made={})
    assert report.margins["note F1"]["silence"].value == report.margins["note F1"]["silence"].low == 1
    assert [fill.note_f1 for fill in report.shown] == [1.0] * 4
    assert "truth minus each other" in to_markdown(report)
    page = to_html(report, each=1)
    assert page.count("<svg") == 3
    assert page.count("data:audio/wav;base64,") == 6
    assert page.count("class='original'") == page.count("class='fill'") > 0
    assert "http" not in page


def test_the_best_median_and_worst_fills_are_each_shown_once(corpus):
    [item] = items_of(corpus, 1, "track-1")
    shown = [ReportedFill(replace(item, number=i), item.original, f1) for i, f1 in enumerate((0.5, 0.1, 0.9, math.nan))]
    chosen = choose(shown, each=1)
    assert [(kind, fill.note_f1) for kind, fill in chosen] == [("best", 0.9), ("median", 0.5), ("worst", 0.1)]
    assert len(choose(shown, each=2)) == 3
    assert choose([], each=2) == []


def test_the_command_prints_tables_and_writes_a_report(corpus, checkpoint, model, tmp_path, capsys):
    out = tmp_path / "report"
    command = ["evaluate", "--corpus", str(corpus.folder), "--model", str(checkpoint), "--out", str(out)]
    assert main([*command, *["--items", "4", "--shapes", "track-1", "all-1", "--samples", "0", "--seed", "2"]]) == 0
    assert "copy the bar before" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert report["made"]["gaps"] == 4
    assert report["made"]["model"] == "tiny.safetensors"
    items = list(evaluation_items(corpus, split="valid", count=4, seed=2, shapes=["track-1", "all-1"]))
    found = report["results"]["model"][BITS]["all shapes"]
    assert found["value"] == pytest.approx(
        sum(target_bits(model, item) for item in items) / sum(item.notes for item in items), rel=1e-5
    )
    assert found["low"] <= found["value"] <= found["high"]
    assert (out / "report.md").read_text().count("| track-1 ") == 2
    assert "<svg" not in (out / "report.html").read_text()  # the command made no fills
    assert not (out / "test_readings.log").exists()


def test_each_reading_of_the_test_split_is_recorded(checkpoint, corpus, tmp_path, capsys):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "shards").symlink_to(corpus.folder / "shards")
    (folder / "corpus.json").write_text((corpus.folder / "corpus.json").read_text())
    (folder / "manifest.jsonl").write_text((corpus.folder / "manifest.jsonl").read_text().replace('"valid"', '"test"'))
    command = ["evaluate", "--corpus", str(folder), "--model", str(checkpoint), "--out", str(tmp_path / "out")]
    for times in (1, 2):
        assert main([*command, *["--split", "test", "--items", "1", "--shapes", "track-1", "--samples", "0"]]) == 0
        lines = (tmp_path / "out" / "test_readings.log").read_text().splitlines()
        assert len(lines) == times
        assert lines[-1].startswith("20")
    assert "this reads the test split" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--shapes", "whole-song"], "there is no shape whole-song"),
        (["--items", "0"], "give at least 1 item"),
        (["--reward", "r.safetensors", "--samples", "1"], "chooses among samples; give --samples 2 or more"),
        (["--model", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
        (["--corpus", "nowhere"], "nowhere holds no finished corpus"),
        (["--split", "test"], "has no test pieces"),
    ],
)
def test_wrong_arguments_end_with_one_sentence_and_status_2(corpus, checkpoint, tmp_path, capsys, changes, message):
    command = ["evaluate", "--corpus", str(corpus.folder), "--model", str(checkpoint), "--out", str(tmp_path / "o")]
    assert main([*command, *changes]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_model_with_too_short_a_context_is_refused(corpus, tmp_path, capsys):
    save_checkpoint(
        tmp_path / "short.safetensors",
        InfillTransformer(sized("nano", width=32, layers=1, heads=2, max_length=512)),
        info={},
    )
    command = ["evaluate", "--corpus", str(corpus.folder), "--out", str(tmp_path / "o")]
    assert main([*command, "--model", str(tmp_path / "short.safetensors")]) == 2
    assert "reads 512 tokens, the protocol uses 1024" in capsys.readouterr().err
