"""`harmonixr infill` end to end on a tiny model: it writes files; an error is one sentence and exit status 2."""

import re
import wave

import pytest
import torch

from harmonixr_model.infill.checkpoint import save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.song import Song
from harmonixr_platform.cli import main

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = InfillTransformer(InfillConfig(width=16, layers=1, heads=1, dropout=0.0, max_length=900))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(path, model, info={})
    return path


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.mid"
    path.write_bytes(compose_song(3, bars=8))
    return path


@pytest.fixture
def infill(song, weights, capsys):
    """Run the command; return (status, standard output, standard error)."""

    def run(*args, source=song, model=weights):
        status = main(["infill", str(source), "--model", str(model), *map(str, args)])
        return status, *capsys.readouterr()

    return run


def test_bars_of_a_track_are_filled_and_the_rest_stays(infill, song, tmp_path):
    source = song.read_bytes()
    status, out, _ = infill("--bars", "3-4", "--tracks", "bass", "--seed", 7, "-o", tmp_path / "out.mid")
    assert status == 0
    assert re.search(r"out\.mid: \d+ notes? \(Bass \d+\), seed 7\n1 fill in \d+\.\d s", out)
    before, after = Song.parse(source).score, Song.parse((tmp_path / "out.mid").read_bytes()).score
    assert song.read_bytes() == source
    bars = before.bars
    for i, (old, new) in enumerate(zip(before.tracks, after.tracks, strict=True)):
        start, end = (bars[2].start, bars[3].end) if i == 2 else (0, 0)
        assert [n for n in old.notes if not start <= n.onset < end] == [
            n for n in new.notes if not start <= n.onset < end
        ]
    assert before.tracks[2] != after.tracks[2]


def test_several_candidates_are_numbered_and_a_seed_makes_one_again(infill, tmp_path):
    status, out, _ = infill("--bars", 3, "--n", 3, "--seed", 20, "-o", tmp_path / "out.mid")
    assert status == 0
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out.1.mid", "out.2.mid", "out.3.mid"]
    assert "seed 22" in out
    infill("--bars", 3, "--seed", 22, "-o", tmp_path / "again.mid")
    assert (tmp_path / "again.mid").read_bytes() == (tmp_path / "out.3.mid").read_bytes()


def test_without_a_seed_one_is_drawn_and_printed(infill, tmp_path):
    _, out, _ = infill("--bars", 3, "-o", tmp_path / "one.mid")
    seed = re.search(r"seed (\d+)", out)[1]
    infill("--bars", 3, "--seed", seed, "-o", tmp_path / "two.mid")
    assert (tmp_path / "one.mid").read_bytes() == (tmp_path / "two.mid").read_bytes()


def test_limits_are_kept(infill, tmp_path):
    limits = ("--key", "A minor", "--pitch-min", 50, "--pitch-max", 70, "--max-notes-per-bar", 3, "--velocity-min", 90)
    status, *_ = infill("--bars", "3-4", "--tracks", 1, *limits, "--temperature", 3, "-o", tmp_path / "out.mid")
    score = Song.parse((tmp_path / "out.mid").read_bytes()).score
    bars = [[n for n in score.tracks[0].notes if bar.start <= n.onset < bar.end] for bar in score.bars[2:4]]
    assert status == 0
    assert all(len(bar) <= 3 for bar in bars)
    for note in [note for bar in bars for note in bar]:
        assert 50 <= note.pitch <= 70
        assert note.velocity >= 90
        assert note.pitch % 12 in {9, 11, 0, 2, 4, 5, 7}


def test_a_song_goes_on_past_its_end_and_takes_a_new_track(infill, song, tmp_path):
    infill("--continue", 2, "--min-notes-per-bar", 1, "-o", tmp_path / "longer.mid")
    before = Song.parse(song.read_bytes()).score
    longer = Song.parse((tmp_path / "longer.mid").read_bytes()).score
    assert longer.end > before.bars[-1].end
    status, out, _ = infill(
        "--bars", "1-2", "--new-track", "cello", "--min-notes-per-bar", 2, "-o", tmp_path / "more.mid"
    )
    more = Song.parse((tmp_path / "more.mid").read_bytes()).score
    assert status == 0
    assert "(Cello " in out
    assert more.tracks[:-1] == before.tracks
    assert more.tracks[-1].program == 42


def test_the_sound_of_the_fill_is_written_beside_it(infill, tmp_path):
    infill("--bars", "4", "-o", tmp_path / "out.mid", "--wav", tmp_path / "out.wav")
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert file.getnframes() > 44_100


def test_the_list_says_what_there_is_to_fill(infill):
    status, out, _ = infill("--list")
    assert status == 0
    assert out.startswith("8 bars, ")
    assert re.search(r"^track 3  Bass: program \d+, \d+ notes, bars 1-8$", out, re.MULTILINE)
    assert "track 4  Drums: drums" in out


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["-o", "OUT"], "give the region to fill"),
        (["--bars", "3"], "give the file to write"),
        (["--bars", "7-9", "-o", "OUT"], "8 bars"),
        (["--bars", "nine", "-o", "OUT"], "cannot read bars"),
        (["--beats", "1-900", "-o", "OUT"], "beats"),
        (["--continue", "0", "-o", "OUT"], "give at least 1"),
        (["--bars", "3", "--tracks", "Oboe", "-o", "OUT"], "there is no track 'Oboe'; this song has 1 'Melody'"),
        (["--bars", "3", "--new-track", "theremin", "-o", "OUT"], "there is no instrument 'theremin'"),
        (["--bars", "3", "--new-track", "128", "-o", "OUT"], "give 0-127"),
        (["--bars", "3", "--pitch-min", "70", "--pitch-max", "60", "-o", "OUT"], "pitch range 70-60"),
        (["--bars", "3", "--key", "H dur", "-o", "OUT"], "cannot read the key"),
        (["--bars", "3", "--min-notes-per-bar", "9", "--max-notes-per-bar", "2", "-o", "OUT"], "cannot both hold"),
        (["--bars", "3", "--band", "x", "-o", "OUT"], "cannot read the band"),
        (["--bars", "3", "--band", "80-70", "-o", "OUT"], "pitch band 80-70"),
        (["--bars", "3", "--lock", "1:2", "-o", "OUT"], "TRACK:TICK:PITCH"),
        (["--bars", "3", "--lock", "1:7:3", "-o", "OUT"], "no note of pitch 3"),
        (["--bars", "3", "--n", "0", "-o", "OUT"], "--n 0 is out of range"),
        (["--bars", "3", "--temperature", "-1", "-o", "OUT"], "temperature"),
        (["--bars", "3", "--seed", "-4", "-o", "OUT"], "seed from 0"),
        (["--bars", "3", "-o", "no/such/folder/out.mid"], "does not exist; make it first"),
        (["--bars", "3", "-o", "."], "is a folder"),
        (["--bars", "3", "-o", "OUT", "--wav", "no/such/folder/out.wav"], "does not exist; make it first"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence_and_leaves_no_file(infill, tmp_path, args, expected):
    target = tmp_path / "out.mid"
    status, out, err = infill(*[str(target) if arg == "OUT" else arg for arg in args])
    message = err.strip().splitlines()[-1]
    assert status == 2
    assert message.startswith("harmonixr infill: ")
    assert expected in message
    assert out == ""
    assert not target.exists()


@pytest.mark.parametrize("args", [["--bars", "1", "--beats", "1"], ["--tracks", "1", "--new-track", "0"]])
def test_contradictory_arguments_exit_with_status_two(infill, args):
    with pytest.raises(SystemExit) as stopped:
        infill(*args)
    assert stopped.value.code == 2


@pytest.mark.parametrize("data", [b"", b"not music at all", compose_song(1, bars=4)[:40], b"MThd"])
def test_a_file_that_is_no_midi_is_one_sentence(infill, tmp_path, data):
    (tmp_path / "bad.mid").write_bytes(data)
    status, _, err = infill("--bars", 1, "-o", tmp_path / "out.mid", source=tmp_path / "bad.mid")
    assert status == 2
    assert len(err.strip().splitlines()) == 1


def test_a_huge_file_is_refused_before_it_is_read(infill, tmp_path):
    with (tmp_path / "huge.mid").open("wb") as file:
        file.truncate(100 << 20)
    status, _, err = infill("--bars", 1, "-o", tmp_path / "out.mid", source=tmp_path / "huge.mid")
    assert status == 2
    assert "104,857,600 bytes" in err


def test_files_that_are_missing_or_folders_are_named(infill, tmp_path):
    status, _, err = infill("--bars", 1, "-o", tmp_path / "out.mid", source=tmp_path / "none.mid")
    assert (status, "none.mid: no such file" in err) == (2, True)
    status, _, err = infill("--bars", 1, "-o", tmp_path / "out.mid", source=tmp_path)
    assert (status, "is a folder" in err) == (2, True)
    status, _, err = infill("--bars", 1, "-o", tmp_path / "out.mid", model=tmp_path / "none.safetensors")
    assert (status, "none.safetensors: no such file" in err) == (2, True)


def test_the_input_is_overwritten_only_by_force(infill, song):
    source = song.read_bytes()
    status, _, err = infill("--bars", 1, "-o", song)
    assert (status, "give --force" in err) == (2, True)
    assert song.read_bytes() == source
    status, *_ = infill("--bars", 1, "-o", song, "--force", "--min-notes-per-bar", 1)
    assert status == 0
    assert song.read_bytes() != source
