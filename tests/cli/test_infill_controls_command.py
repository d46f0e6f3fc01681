"""`harmonixr infill` with soft controls: followed by a model that learnt them, refused in one sentence otherwise."""

import pytest
import torch

from harmonixr_model.infill.checkpoint import save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.song import Song
from harmonixr_model.prompt.controls import CONTROLS
from harmonixr_platform.cli import main

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return InfillTransformer(InfillConfig(width=16, layers=1, heads=1, dropout=0.0, max_length=900))


@pytest.fixture
def infill(model, tmp_path, capsys):
    def run(*args, info):
        song, weights = tmp_path / "song.mid", tmp_path / "tiny.safetensors"
        song.write_bytes(compose_song(3, bars=8))
        save_checkpoint(weights, model, info=info)
        given = ["infill", str(song), "--model", str(weights), "--bars", "3-4", "--tracks", "1", "--seed", "7"]
        status = main([*given, "-o", str(tmp_path / "out.mid"), *args])
        return status, capsys.readouterr().err

    return run


LEARNT = {"controls": list(CONTROLS), "data": {"styles": {"pop": 2}, "composers": {"Lang": 2}}}


def test_every_control_reaches_the_model(infill, tmp_path):
    asked = ["--density", "2", "--polyphony", "1", "--velocity", "80", "--chords", "C Am | F", "--key-hint", "C major"]
    assert infill(*asked, "--style", "pop", "--composer", "Lang", "--chord-tones-only", info=LEARNT)[0] == 0
    score = Song.parse((tmp_path / "out.mid").read_bytes()).score
    second = score.bars[3]
    notes = [n for n in score.tracks[0].notes if second.start <= n.onset < second.end]
    assert {note.pitch % 12 for note in notes} <= {5, 9, 0}
    assert infill("--density", "2", "--guidance", "2", info=LEARNT)[0] == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--density", "99"], "give 0 to 14"),
        (["--style", "polka"], "choose from pop"),
        (["--style", "jazz"], "it knows pop"),
        (["--chords", "C | | F"], "is empty"),
        (["--chords", "H7"], "such as 'C'"),
        (["--chord-tones-only"], "no chords are given"),
        (["--guidance", "2"], "ask for something"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(infill, args, says):
    status, error = infill(*args, info=LEARNT)
    assert status == 2
    assert says in error
    assert len([line for line in error.splitlines() if line.startswith("harmonixr")]) <= 1


def test_a_model_that_learnt_none_says_so(infill):
    status, error = infill("--density", "2", info={})
    assert status == 2
    assert "not trained to follow density" in error


def test_copy_strength_has_its_former_option(infill, tmp_path):
    for option in ("--copy-strength", "--recall"):
        assert infill(option, "0", info={})[0] == 0
        assert infill(option, "2", info={})[0] == 2
