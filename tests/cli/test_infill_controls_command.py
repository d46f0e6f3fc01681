"""`harmonixr infill` with attribute controls: refused in one sentence unless the model was trained on them."""

import pytest
import torch

from harmonixr_model.infill.checkpoint import save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.song import Song
from harmonixr_model.prompt.controls import TRAINED
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


SUPPORTED = {"controls": list(TRAINED), "data": {"styles": {"pop": 2}, "composers": {"Lang": 2}}}


def test_every_control_reaches_the_model(infill, tmp_path):
    options = [
        "--density",
        "2",
        "--polyphony",
        "1",
        "--velocity",
        "80",
        "--chords",
        "C Am | F",
        "--key-hint",
        "C major",
    ]
    assert infill(*options, "--style", "pop", "--composer", "Lang", "--chord-tones-only", info=SUPPORTED)[0] == 0
    score = Song.parse((tmp_path / "out.mid").read_bytes()).score
    second = score.bars[3]
    notes = [n for n in score.tracks[0].notes if second.start <= n.onset < second.end]
    assert {note.pitch % 12 for note in notes} <= {5, 9, 0}
    assert infill("--density", "2", "--guidance", "2", info=SUPPORTED)[0] == 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--density", "99"], "give 0 to 14"),
        (["--style", "polka"], "choose from pop"),
        (["--style", "jazz"], "it knows pop"),
        (["--chords", "C | | F"], "is empty"),
        (["--chords", "H7"], "such as 'C'"),
        (["--chord-tones-only"], "no chords are given"),
        (["--guidance", "2"], "add one, such as"),
    ],
)
def test_a_bad_control_is_one_sentence(infill, args, expected):
    status, error = infill(*args, info=SUPPORTED)
    assert status == 2
    assert expected in error
    assert len([line for line in error.splitlines() if line.startswith("harmonixr")]) <= 1


def test_a_model_trained_on_no_control_refuses_them(infill):
    status, error = infill("--density", "2", info={})
    assert status == 2
    assert "not trained to follow density" in error


def test_copy_strength_has_its_former_option(infill, tmp_path):
    for option in ("--copy-strength", "--recall"):
        assert infill(option, "0", info={})[0] == 0
        assert infill(option, "2", info={})[0] == 2


def test_errors_spell_controls_as_options(infill):
    for options in (["--key-hint", "C major"], ["--chord-tones-only"]):
        status, error = infill(*options, info={})
        assert status == 2
        assert options[0] in error
