"""`harmonixr infill --only`: on files, as a musician runs it."""

import pytest
import torch

from harmonixr_model.infill.checkpoint import save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.song import Song
from harmonixr_model.notes.field_tokens import NOTE_FIELDS
from harmonixr_platform.cli import main


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("only")
    (folder / "song.mid").write_bytes(compose_song(2, bars=12))
    torch.manual_seed(1)
    model = InfillTransformer(InfillConfig(width=32, layers=1, heads=2, dropout=0.0, max_length=1024))
    save_checkpoint(folder / "model.safetensors", model, info={"fields": list(NOTE_FIELDS)})
    return folder


def test_velocities_change_and_nothing_else_does(files, capsys):
    song, out = files / "song.mid", files / "out.mid"
    command = ["infill", str(song), "--bars", "5-6", "--only", "velocity", "--seed", "3", "-o", str(out)]
    assert main([*command, "--model", str(files / "model.safetensors")]) == 0
    assert "seed 3" in capsys.readouterr().out
    before, after = Song.parse(song.read_bytes()), Song.parse(out.read_bytes())
    assert before.score != after.score
    for old, new in zip(before.score.tracks, after.score.tracks, strict=True):
        assert [note[:3] for note in old.notes] == [note[:3] for note in new.notes]
    assert len(song.read_bytes()) == len(out.read_bytes())


def test_a_constraint_that_does_not_apply_to_the_field_is_refused(files, capsys):
    command = ["infill", str(files / "song.mid"), "--bars", "5-6", "--only", "rhythm", "--key", "C major"]
    code = main([*command, "-o", str(files / "no.mid"), "--model", str(files / "model.safetensors")])
    assert code != 0
    assert "only the rhythm of notes may change; leave it out" in capsys.readouterr().err
