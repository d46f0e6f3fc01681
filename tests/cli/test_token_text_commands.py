"""`harmonixr encode` and `decode`: folders of MIDI to readable text and back."""

import pytest

from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.song import Song
from harmonixr_model.notes.grid import plain, quantize
from harmonixr_platform.cli import main


@pytest.fixture
def folder(tmp_path):
    """Two songs at different depths, and a file that is neither MIDI nor text."""
    (tmp_path / "in" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "in" / "one.mid").write_bytes(compose_song(1, bars=4))
    (tmp_path / "in" / "deep" / "er" / "two.MIDI").write_bytes(compose_song(2, bars=4))
    (tmp_path / "in" / "notes.txt").write_text("not music")
    return tmp_path / "in"


def grid_of(path):
    return quantize(Song.parse(path.read_bytes()).score)


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_goes_to_text_and_back_in_the_same_layout(folder, tmp_path, capsys):
    assert main(["encode", str(folder), "-o", str(tmp_path / "text")]) == 0
    assert files_in(tmp_path / "text") == ["deep/er/two.MIDI.txt", "one.mid.txt"]
    assert "2 of 2 files" in capsys.readouterr().out
    assert main(["decode", str(tmp_path / "text"), "-o", str(tmp_path / "back")]) == 0
    assert files_in(tmp_path / "back") == ["deep/er/two.MIDI", "one.mid"]
    for name in files_in(tmp_path / "back"):
        assert plain(grid_of(tmp_path / "back" / name)) == plain(grid_of(folder / name))


def test_the_text_has_a_bar_a_line_and_allows_comments(folder, tmp_path):
    text = tmp_path / "one.txt"
    assert main(["encode", str(folder / "one.mid"), "-o", str(text)]) == 0
    lines = text.read_text().splitlines()
    assert lines[0].startswith("BOS TEMPO")
    assert sum(line.startswith("BAR TS_") for line in lines) == len(
        Song.parse((folder / "one.mid").read_bytes()).score.bars
    )
    text.write_text("# mine\n" + text.read_text().replace("\n", "  # a remark\n"))
    assert main(["decode", str(text), "-o", str(tmp_path / "one.mid")]) == 0
    assert plain(grid_of(tmp_path / "one.mid")) == plain(grid_of(folder / "one.mid"))


def test_a_bad_file_is_reported_and_the_others_are_converted(folder, tmp_path, capsys):
    (folder / "bad.mid").write_bytes(b"MThd and no more")
    assert main(["encode", str(folder), "-o", str(tmp_path / "text")]) == 1
    out, err = capsys.readouterr()
    assert "2 of 3 files" in out
    assert "bad.mid: " in err
    assert len(files_in(tmp_path / "text")) == 2
    (tmp_path / "text" / "bad.mid.txt").write_text("BOS NONSENSE EOS")
    assert main(["decode", str(tmp_path / "text"), "-o", str(tmp_path / "back")]) == 1
    assert "bad.mid.txt: line 1: " in capsys.readouterr().err
    assert len(files_in(tmp_path / "back")) == 2


def test_a_song_is_never_overwritten_unless_forced(folder, tmp_path, capsys):
    song = folder / "one.mid"
    source = song.read_bytes()
    assert main(["encode", str(folder), "-o", str(folder)]) == 0
    assert main(["decode", str(folder), "-o", str(folder)]) == 1
    assert song.read_bytes() == source
    assert "exists already" in capsys.readouterr().err
    assert main(["decode", str(folder), "-o", str(folder), "--force"]) == 0
    assert song.read_bytes() != source


@pytest.mark.parametrize("command", ["encode", "decode"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file or folder"),
        (lambda path: path.mkdir(), "there is no file ending in"),
        (lambda path: path.write_bytes(b"\xff\xfe nothing"), ""),
    ],
)
def test_an_unreadable_input_is_one_sentence(command, make, message, tmp_path, capsys):
    make(tmp_path / "source")
    assert main([command, str(tmp_path / "source"), "-o", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"harmonixr {command}: ")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
