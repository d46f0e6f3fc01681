"""`harmonixr finetune`: a folder of one's own music in; a model and a table of before and after out."""

from __future__ import annotations

import json

import pytest
import torch

from harmonixr_model.data.corpus import Corpus, hold_out
from harmonixr_model.errors import CorpusError
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.config import sized
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_platform.cli import main


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    for seed in range(6):
        (folder / f"song-{seed}.mid").write_bytes(compose_song(seed))
    (folder / "broken.mid").write_bytes(b"MThd")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    torch.manual_seed(0)
    save_checkpoint(path, InfillTransformer(sized("nano", width=32, layers=1, heads=2, max_length=1024)), info={})
    return path


def test_a_model_improves_on_a_folder_and_the_report_shows_by_how_much(songs, model, tmp_path, capsys):
    out = tmp_path / "tuned"
    args = [str(songs), "--out", str(out), "--model", str(model), "--items", "1", "--learning-rate", "0.01"]
    assert main(["finetune", *args, "--steps", "4"]) == 0
    output = capsys.readouterr().out
    assert "6 pieces of 7 files (1 rejected, 0 copies): 5 to learn from, 1 held out" in output
    report = json.loads((out / "report.json").read_text())["results"]
    bits = {name: report[name]["bits per note"]["all shapes"]["value"] for name in ("before", "after")}
    assert bits["after"] < bits["before"]
    assert f"{bits['before']:.2f} before, {bits['after']:.2f} after" in output
    tuned, info = load_checkpoint(out / "model.safetensors")
    assert tuned.config.dropout == 0.1
    assert info["training"]["start_from"]


def test_a_model_that_did_not_get_better_is_not_recommended(songs, model, tmp_path, capsys):
    out = tmp_path / "tuned"
    args = [str(songs), "--out", str(out), "--model", str(model), "--items", "1", "--learning-rate", "5"]
    assert main(["finetune", *args, "--steps", "2"]) == 1
    assert "it did not help" in capsys.readouterr().out


def test_one_song_alone_cannot_be_split(songs, model, tmp_path, capsys):
    assert main(["finetune", str(songs / "song-0.mid"), "--out", str(tmp_path / "o"), "--model", str(model)]) == 2
    assert "give at least two different ones" in capsys.readouterr().err


def test_pieces_held_out_depend_on_their_names_alone(tmp_path):
    folder = write_composed_corpus(tmp_path / "c", pieces=10, bars=4)
    assert hold_out(folder, share=0.3) == {"train": 7, "valid": 3}
    held_out = {Corpus.open(folder).piece(i).piece_id for i in Corpus.open(folder).split("valid")}
    assert hold_out(folder, share=0.3) == {"train": 7, "valid": 3}
    assert held_out == {Corpus.open(folder).piece(i).piece_id for i in Corpus.open(folder).split("valid")}
    with pytest.raises(CorpusError, match="at least two"):
        hold_out(write_composed_corpus(tmp_path / "one", pieces=1, bars=4), share=0.5)
