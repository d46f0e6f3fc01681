"""Ingest on a real Ray: the same corpus as in one process, with broken files among the music."""

import pytest

from harmonixr_model.data.build import finish
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.shards import find_files, plan_shards
from harmonixr_model.music.compose import compose, compose_song
from harmonixr_model.music.write import write_midi
from harmonixr_platform.cli import main
from harmonixr_platform.training.ingest_job import _on_ray


def corpus_files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("harmonixr_model.data.shards.FILES_PER_SHARD", 4)
    for seed in range(9):
        (tmp_path / "music" / f"{seed % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "music" / f"{seed % 3}" / f"{seed}.mid").write_bytes(write_midi(compose(seed)))
    (tmp_path / "music" / "broken.mid").write_bytes(compose_song(1)[:150])
    (tmp_path / "music" / "empty.mid").write_bytes(b"")
    return tmp_path / "music"


def test_the_command_prints_counts_by_reason(folder, tmp_path, capsys):
    assert main(["ingest", str(folder), "--out", str(tmp_path / "corpus"), "--no-ray"]) == 0
    printed = capsys.readouterr().out
    assert "pieces kept" in printed
    assert "unreadable" in printed
    assert "not midi" in printed
    assert len(Corpus.open(tmp_path / "corpus")) == 9


def test_only_unusable_files_fail_and_no_files_are_bad_input(tmp_path, capsys):
    (tmp_path / "music").mkdir()
    assert main(["ingest", str(tmp_path / "music"), "--out", str(tmp_path / "c"), "--no-ray"]) == 2
    assert "no MIDI file" in capsys.readouterr().err
    assert main(["ingest", str(tmp_path / "music"), "--out", str(tmp_path / "c"), "--workers", "0"]) == 2
    assert "give at least 1" in capsys.readouterr().err
    (tmp_path / "music" / "a.mid").write_bytes(b"nothing")
    assert main(["ingest", str(tmp_path / "music"), "--out", str(tmp_path / "music" / "a.mid"), "--no-ray"]) == 2
    assert "is a file" in capsys.readouterr().err
    assert main(["ingest", str(tmp_path / "music"), "--out", str(tmp_path / "c"), "--no-ray"]) == 1


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray", "ignore::ResourceWarning")
def test_ray_makes_the_same_corpus_and_resumes(folder, tmp_path):
    assert main(["ingest", str(folder), "--out", str(tmp_path / "one"), "--no-ray"]) == 0
    assert main(["ingest", str(folder), "--out", str(tmp_path / "two"), "--workers", "2"]) == 0
    assert corpus_files(tmp_path / "one") == corpus_files(tmp_path / "two")
    (tmp_path / "two" / "manifest.jsonl").unlink()
    (tmp_path / "two" / "shards" / "00001.jsonl").unlink()
    assert main(["ingest", str(folder), "--out", str(tmp_path / "two"), "--workers", "2"]) == 0
    assert corpus_files(tmp_path / "one") == corpus_files(tmp_path / "two")


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray", "ignore::ResourceWarning")
def test_a_file_that_kills_its_reader_is_left_out_and_the_others_stay(folder, tmp_path):
    (folder / "killer.mid").write_bytes(b"MThd kills")

    def fill(plan, out):  # nested, so that it travels by value: workers cannot import a test
        import os
        from pathlib import Path

        from harmonixr_model.data import shards

        read = shards.read_path

        def read_or_die(path, **options):
            if Path(path).name == "killer.mid":
                os._exit(1)
            return read(path, **options)

        shards.read_path = read_or_die
        try:
            return shards.fill_shard(plan, out)
        finally:
            shards.read_path = read

    out = tmp_path / "corpus"
    plans = plan_shards(find_files([folder]), out)
    results = list(_on_ray(plans, out, 2, fill=fill))
    assert sum(result.files for result in results) == 12
    summary = finish(out)
    assert summary.rejected == {"kills_the_parser": 1, "not_midi": 1, "unreadable": 1}
    assert summary.pieces == 9


def test_an_interrupt_prints_how_to_resume(folder, tmp_path, capsys, monkeypatch):
    def interrupted(plan, out):
        raise KeyboardInterrupt

    monkeypatch.setattr("harmonixr_platform.training.ingest_job.fill_shard", interrupted)
    assert main(["ingest", str(folder), "--out", str(tmp_path / "corpus"), "--no-ray"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
