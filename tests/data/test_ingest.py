"""Ingest: any file gives music on the grid or a reason, and duplicates are found."""

import csv
import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonixr_model.data.build import finish, read_given_manifest
from harmonixr_model.data.corpus import Corpus, Piece, shard_records, write_manifest, write_shard
from harmonixr_model.data.dedup import fingerprint, near_duplicates, similarity
from harmonixr_model.data.ingest import Parsed, Rejected, read_file
from harmonixr_model.data.shards import Journal, fill_shard, find_files, plan_shards
from harmonixr_model.data.splits import split_of, split_of_given
from harmonixr_model.errors import CorpusError
from harmonixr_model.music import bulk_reader
from harmonixr_model.music.compose import compose, compose_song
from harmonixr_model.music.score import Note, Score, TimeSignature, Track
from harmonixr_model.music.transforms import map_notes, transpose
from harmonixr_model.music.write import write_midi
from harmonixr_model.notes.grid import quantize

SONG = compose_song(1)


def test_a_file_gives_its_notes_on_the_grid():
    parsed = read_file(write_midi(compose(3)))
    assert isinstance(parsed, Parsed)
    assert parsed.score == quantize(parsed.score)
    wanted = quantize(compose(3))
    assert [t.notes for t in parsed.score.tracks] == [t.notes for t in wanted.tracks if t.notes]
    assert parsed.score.time_signatures == wanted.time_signatures
    assert not parsed.has_pseudo_bars


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_midi"),
        (b"<html>", "not_midi"),
        (SONG[:200], "unreadable"),
        (write_midi(Score(480)), "empty"),
        (write_midi(Score(480, (Track((Note(0, 10, 60, 90),)),))), "too_short"),
        (b"MThd" + bytes(9 << 20), "too_large"),
    ],
)
def test_unusable_files_are_rejected_with_a_reason(data, reason):
    rejected = read_file(data)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason
    assert rejected.detail


def test_a_piece_of_hours_is_too_long():
    notes = tuple(Note(480 * 300 * i, 100, 60, 90) for i in range(40))
    rejected = read_file(write_midi(Score(480, (Track(notes),))))
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "too_long"


@given(st.lists(st.tuples(st.integers(0, len(SONG) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(SONG)))
@settings(deadline=None, max_examples=60)
def test_a_damaged_file_never_raises(changes, length):
    data = bytearray(SONG)
    for place, value in changes:
        data[place] = value
    assert isinstance(read_file(bytes(data[:length])), Parsed | Rejected)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_gives_the_notes_it_still_has(share):
    """Read by the lossless reader: the bulk reader would read past the end."""
    parsed = read_file(SONG[: int(share * len(SONG))])
    whole = read_file(SONG)
    assert isinstance(parsed, Parsed)
    assert isinstance(whole, Parsed)
    assert 0 < parsed.notes < whole.notes


def test_both_readers_give_the_same_of_a_whole_file(monkeypatch):
    whole = read_file(SONG)
    monkeypatch.setattr(bulk_reader, "is_whole", lambda data: False)
    careful = read_file(SONG)
    assert isinstance(whole, Parsed)
    assert isinstance(careful, Parsed)
    assert careful.notes_hash == whole.notes_hash


def test_a_placeholder_metre_and_a_performance_get_pseudo_bars():
    score = compose(4)
    placeholder = dataclasses.replace(score, time_signatures=(TimeSignature(0, 1, 4),))
    rng = np.random.default_rng(0)
    free = map_notes(score, lambda n: n._replace(onset=max(0, n.onset + int(rng.integers(-240, 240)))))
    for unmetred in (placeholder, free):
        parsed = read_file(write_midi(unmetred))
        assert isinstance(parsed, Parsed)
        assert parsed.has_pseudo_bars
        assert parsed.score.time_signatures == (TimeSignature(0, 4, 4),)


def test_near_duplicates_are_found_in_another_key_and_with_wrong_notes_and_others_are_not():
    rng = np.random.default_rng(0)
    songs = [quantize(compose(seed)) for seed in range(30)]
    moved = [transpose(song, 5) for song in songs]
    wrong = [
        map_notes(song, lambda n: None if rng.random() < 0.02 else n._replace(velocity=50), tracks=[0])
        for song in songs
    ]
    signatures = [fingerprint(score) for score in (*songs, *moved, *wrong)]
    first_of = near_duplicates(signatures)
    assert first_of[:30] == list(range(30))
    assert first_of[30:60] == list(range(30))
    assert np.mean(np.array(first_of[60:]) == np.arange(30)) > 0.9
    assert similarity(signatures[0], signatures[1]) < 0.2


def test_splits_follow_the_piece_id_alone_in_the_promised_shares():
    splits = [split_of(f"piece {i}") for i in range(4000)]
    shares = {name: splits.count(name) / 4000 for name in ("train", "valid", "test")}
    assert shares["train"] == pytest.approx(0.9, abs=0.02)
    assert shares["valid"] == pytest.approx(0.05, abs=0.015)
    given = [split_of_given("valid", f"piece {i}") for i in range(1000)]
    assert set(given) == {"valid", "test"}
    assert given.count("test") == pytest.approx(500, abs=60)
    assert split_of_given("train", "any") == "train"


@pytest.fixture
def folder(tmp_path):
    """Six songs in folders, one of them twice, one of them in another key too, and three broken files."""
    music = tmp_path / "music"
    (music / "deep" / "er").mkdir(parents=True)
    for seed in range(6):
        (music / "deep" / f"song{seed}.mid").write_bytes(write_midi(compose(seed)))
    (music / "deep" / "er" / "copy.MIDI").write_bytes(write_midi(compose(2)))
    (music / "higher.kar").write_bytes(write_midi(transpose(compose(3), 2)))
    (music / "broken.mid").write_bytes(SONG[:99])
    (music / "page.mid").write_bytes(b"<html>")
    (music / "gone.mid").symlink_to(music / "nothing")
    (music / "notes.txt").write_text("not music")
    return music


def ingest(folder, out, *, given=None):
    for plan in plan_shards(find_files([folder]), out):
        fill_shard(plan, out)
    return finish(out, given=given)


def test_a_folder_becomes_a_corpus_with_every_file_accounted_for(folder, tmp_path):
    summary = ingest(folder, tmp_path / "corpus")
    assert summary.files == 11
    assert summary.rejected == {"unreadable": 2, "not_midi": 1}
    assert (summary.pieces, summary.exact_duplicates, summary.near_duplicates) == (7, 1, 1)
    assert summary.files == summary.pieces + summary.exact_duplicates + sum(summary.rejected.values())
    rejects = [json.loads(line) for line in (tmp_path / "corpus" / "rejects.jsonl").read_text().splitlines()]
    assert {reject["path"] for reject in rejects} == {"broken.mid", "page.mid", "gone.mid"}
    corpus = Corpus.open(tmp_path / "corpus")
    pieces = {corpus.piece(i).path: corpus.piece(i) for i in range(len(corpus))}
    assert pieces["higher.kar"].piece_id == pieces["deep/song3.mid"].piece_id
    assert pieces["higher.kar"].split == pieces["deep/song3.mid"].split
    assert len({piece.piece_id for piece in pieces.values()}) == 6


def test_scores_round_trip_through_a_corpus(folder, tmp_path):
    ingest(folder, tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    for i in range(len(corpus)):
        piece = corpus.piece(i)
        parsed = read_file((folder / piece.path).read_bytes())
        assert corpus.score(i) == parsed.score
        assert piece.notes == sum(len(track.notes) for track in parsed.score.tracks)


def test_an_interrupted_ingest_keeps_its_complete_shards(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("harmonixr_model.data.shards.FILES_PER_SHARD", 3)
    out = tmp_path / "corpus"
    plans = plan_shards(find_files([folder]), out)
    fill_shard(plans[0], out)
    kept = (out / "shards" / "00000.npy").stat().st_mtime_ns
    with pytest.raises(CorpusError, match="no finished corpus"):
        Corpus.open(out)
    summary = ingest(folder, out)
    assert (out / "shards" / "00000.npy").stat().st_mtime_ns == kept
    whole = ingest(folder, tmp_path / "at once")
    assert summary == whole
    assert (out / "manifest.jsonl").read_bytes() == (tmp_path / "at once" / "manifest.jsonl").read_bytes()


def test_a_corpus_of_other_files_is_not_overwritten(folder, tmp_path):
    ingest(folder, tmp_path / "corpus")
    (folder / "new.mid").write_bytes(write_midi(compose(9)))
    with pytest.raises(CorpusError, match="other files"):
        plan_shards(find_files([folder]), tmp_path / "corpus")


def test_a_file_that_kills_its_reader_twice_is_left_out(folder, tmp_path):
    out = tmp_path / "corpus"
    [plan] = plan_shards(find_files([folder]), out)
    (out / "shards").mkdir()
    killer = plan.files[0][1]
    for deaths in (1, 2):
        journal = Journal(out / "shards" / "00000.reading")
        outcome = journal.read(killer)  # the process ends here, before the journal is closed
        assert not isinstance(outcome, Rejected) or outcome.reason != "kills_the_parser", deaths
    result = fill_shard(plan, out)
    assert result.rejected["kills_the_parser"] == 1
    assert not (out / "shards" / "00000.reading").exists()


def test_a_given_manifest_decides_pieces_and_splits_and_held_out_music_never_trains(folder, tmp_path):
    table = tmp_path / "manifest.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "piece_id", "split", "source", "licence", "styles"])
        writer.writerow(["deep/song1.mid", "p1", "train", "ours", "CC0", "pop; piano"])
        writer.writerow(["deep/song3.mid", "p3", "valid", "ours", "CC0", ""])
        writer.writerow(["higher.kar", "p4", "train", "ours", "CC0", ""])
    summary = ingest(folder, tmp_path / "corpus", given=read_given_manifest(table))
    corpus = Corpus.open(tmp_path / "corpus")
    pieces = {corpus.piece(i).path: corpus.piece(i) for i in range(len(corpus))}
    assert set(pieces) == {"deep/song1.mid", "deep/song3.mid"}
    assert summary.split_conflicts == 1
    assert pieces["deep/song3.mid"].split in {"valid", "test"}
    assert (pieces["deep/song1.mid"].split, pieces["deep/song1.mid"].licence) == ("train", "CC0")
    assert (pieces["deep/song1.mid"].styles, pieces["deep/song3.mid"].styles) == (("pop", "piano"), ())


def test_mistakes_have_an_error_of_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="no MIDI file"):
        find_files([tmp_path / "empty"])
    with pytest.raises(FileNotFoundError):
        find_files([tmp_path / "nowhere"])
    table = tmp_path / "m.csv"
    table.write_text("path,split\na,train\n")
    with pytest.raises(CorpusError, match="piece_id"):
        read_given_manifest(table)
    table.write_text("path,piece_id,split\na,p,dev\n")
    with pytest.raises(CorpusError, match=r"line 2: there is no split 'dev'; write train, valid, test"):
        read_given_manifest(table)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorpusError, match="not a table"):
        read_given_manifest(table)
    write_shard(tmp_path / "half", "00000", [])
    with pytest.raises(CorpusError, match="harmonixr ingest"):
        Corpus.open(tmp_path / "half")


def test_reading_a_whole_corpus_takes_no_more_memory_than_one_piece(tmp_path):
    notes = tuple(Note(6 * i, 6, 60, 80) for i in range(1500))
    pieces, shards = 1, 20
    records = []
    for shard in range(shards):
        write_shard(
            tmp_path, f"{shard:05}", [(Piece(f"{shard} {i}"), Score(24, (Track(notes),))) for i in range(pieces)]
        )
    for name, record in shard_records(tmp_path):
        records.append(record | {"shard": name, "piece_id": record["path"], "split": "train"})
    write_manifest(tmp_path, records, made={})
    corpus = Corpus.open(tmp_path)
    assert isinstance(corpus._shard("00000"), np.memmap)
    tracemalloc.start()
    try:
        corpus.score(0)
        one = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        for i in range(len(corpus)):
            assert len(corpus.score(i).tracks[0].notes) == 1500
        whole = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Open maps cost a little each; the notes of one piece are freed before the next is read.
    assert whole < 2.2 * one < 2.2 * 1500 * 300
