"""Loaders, on small folders in the layout of each collection with music of our own."""

import json

import numpy as np
import pytest
from openpyxl import Workbook

from harmonixr_model.data.build import finish
from harmonixr_model.data.corpus import Corpus, Piece
from harmonixr_model.data.ingest import Parsed, read_file
from harmonixr_model.data.loaders import LOADERS, load_listing
from harmonixr_model.data.shards import fill_shard, find_files, plan_shards
from harmonixr_model.data.splits import split_of
from harmonixr_model.data.styles import composer_of, style_of
from harmonixr_model.errors import CorpusError
from harmonixr_model.music.compose import compose
from harmonixr_model.music.score import Note, Score, Track
from harmonixr_model.music.transforms import map_notes, transpose
from harmonixr_model.music.write import write_midi
from harmonixr_platform.cli import main
from harmonixr_platform.cli.ingest import DATASETS

MD5 = [f"{digit}{'0' * 30}{digit}" for digit in "0123456789abcdef"]
TRACKS = ["TRAAAGR128F425B14B", "TRBBBKX128F427D5E5"]


def put(path, score):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write_midi(score))


def ingest(name, folder, out, **options):
    listing = load_listing(name, folder, **options)
    for plan in plan_shards(listing.files(), out, is_performance=listing.is_performance):
        fill_shard(plan, out)
    summary = finish(out, listing=listing)
    corpus = Corpus.open(out)
    return summary, {corpus.piece(i).path: corpus.piece(i) for i in range(len(corpus))}


@pytest.fixture
def maestro(tmp_path):
    """Five performances of four pieces in folders of years; one is in the table and was not unpacked."""
    root = tmp_path / "maestro-v3.0.0"
    rows = [
        ("Franz Liszt", "Sonata in B Minor", "train", "2004", 0),
        ("Franz Liszt", "Sonata in B minor ", "train", "2018", 1),
        ("Alban Berg", "Sonata, Op. 1", "validation", "2008", 2),
        ("Frédéric Chopin", 'Étude Op. 10 "No. 1"', "test", "2008", 3),
        ("Franz Schubert", "Impromptus", "train", "2009", None),
    ]
    names = ("canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration")
    table = []
    for i, (composer, title, split, year, seed) in enumerate(rows):
        name = f"{year}/MIDI-Unprocessed_SMF_{i:02}_R1_{year}_01-05_ORIG_MID--AUDIO_{i:02}_R1_{year}_wav.midi"
        table.append((composer, title, split, year, name, name.replace(".midi", ".wav"), "698.66"))
        if seed is not None:
            put(root / name, compose(seed))
    import csv

    with (root / "maestro-v3.0.0.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *table])
    columns = {name: {str(i): row[column] for i, row in enumerate(table)} for column, name in enumerate(names)}
    (root / "maestro-v3.0.0.json").write_text(json.dumps(columns))
    put(root / "2004" / "not in the table.midi", compose(9))
    return root


def test_maestro_has_one_piece_for_each_composer_and_title(maestro, tmp_path):
    summary, pieces = ingest("maestro", maestro, tmp_path / "corpus")
    assert summary.pieces == 4
    liszt = [piece for piece in pieces.values() if piece.composer == "Franz Liszt"]
    assert {piece.piece_id for piece in liszt} == {"maestro franz liszt sonata in b minor"}
    assert len({piece.piece_id for piece in pieces.values()}) == 3
    assert all(piece.split == split_of(piece.piece_id) for piece in pieces.values())
    assert {(piece.source, piece.licence) for piece in pieces.values()} == {("maestro", "CC BY-NC-SA 4.0")}
    assert all("classical" in piece.styles for piece in pieces.values())


def test_maestros_performances_have_pseudo_bars_even_where_they_fall_on_the_beat(maestro, tmp_path):
    summary, pieces = ingest("maestro", maestro, tmp_path / "corpus")
    assert summary.pseudo_bars == 4
    assert all(piece.has_pseudo_bars for piece in pieces.values())


@pytest.mark.parametrize("gone", ["nothing", "csv"])
def test_maestros_own_split_applies_on_request_from_either_table(maestro, tmp_path, gone):
    if gone == "csv":
        (maestro / "maestro-v3.0.0.csv").unlink()
    _, pieces = ingest("maestro", maestro.parent, tmp_path / "corpus", uses_official_split=True)
    splits = {piece.composer: piece.split for piece in pieces.values()}
    assert splits == {"Franz Liszt": "train", "Alban Berg": "valid", "Frédéric Chopin": "test"}


def test_a_near_duplicate_of_held_out_music_is_left_out_of_an_official_split(maestro, tmp_path):
    [chopin] = maestro.glob("2008/*_03_*.midi")
    [liszt] = maestro.glob("2018/*.midi")
    put(liszt, transpose(compose(3), 2))
    summary, pieces = ingest("maestro", maestro, tmp_path / "corpus", uses_official_split=True)
    assert chopin.relative_to(maestro).as_posix() in pieces
    assert liszt.relative_to(maestro).as_posix() not in pieces
    # The other performance of the same piece goes too: it is the piece that is held out.
    assert summary.split_conflicts == 2


@pytest.fixture
def lakh(tmp_path):
    """Four files of which one matches both tracks and one no track, in two of the dataset's forms, and one damaged."""
    root = tmp_path / "lakh"
    for i in range(4):
        put(root / "lmd_full" / MD5[i][0] / f"{MD5[i]}.mid", compose(i))
    (root / "lmd_full" / "f").mkdir()
    (root / "lmd_full" / "f" / f"{MD5[15]}.mid").write_bytes(b"MThd damaged")
    (root / "lmd_full" / "f" / "readme.mid").write_bytes(b"no MD5")
    for track, files in zip(TRACKS, ((0, 1), (1, 2)), strict=True):
        for i in files:
            put(root / "lmd_matched" / track[2] / track[3] / track[4] / track / f"{MD5[i]}.mid", compose(i))
    scores = {TRACKS[0]: {MD5[0]: 0.81, MD5[1]: 0.7}, TRACKS[1]: {MD5[1]: 0.6, MD5[2]: 0.55}}
    (root / "match_scores.json").write_text(json.dumps(scores))
    (root / "md5_to_paths.json").write_text(json.dumps({MD5[3]: ["./P/A Song.mid"]}))
    return root


def test_lakh_full_takes_its_pieces_from_the_matches(lakh, tmp_path):
    summary, pieces = ingest("lakh", lakh, tmp_path / "corpus")
    assert (summary.pieces, summary.rejected) == (4, {"unreadable": 1})
    ids = [pieces[f"lmd_full/{MD5[i][0]}/{MD5[i]}.mid"].piece_id for i in range(4)]
    assert ids == [f"lakh {TRACKS[0]}"] * 3 + [f"lakh {MD5[3]}"]
    assert pieces[f"lmd_full/3/{MD5[3]}.mid"].title == "A Song"
    assert not any(piece.has_pseudo_bars for piece in pieces.values())


def test_lakh_matched_links_two_tracks_through_the_copy_that_is_left_out(lakh, tmp_path):
    summary, pieces = ingest("lakh", lakh / "lmd_matched", tmp_path / "corpus")
    assert (summary.pieces, summary.exact_duplicates) == (3, 1)
    assert {piece.piece_id for piece in pieces.values()} == {f"lakh {TRACKS[0]}"}


def test_lakhs_clean_subset_is_identified_by_artist_and_title(tmp_path):
    for i, name in enumerate(["Song.mid", "Song.1.mid", "Other.mid"]):
        put(tmp_path / "clean_midi" / "An Artist" / name, compose(i))
    _, pieces = ingest("lakh", tmp_path / "clean_midi", tmp_path / "corpus")
    assert {piece.piece_id for piece in pieces.values()} == {"lakh an artist song", "lakh an artist other"}
    assert pieces["An Artist/Song.1.mid"].title == "Song"


@pytest.fixture
def giantmidi(tmp_path):
    names = [
        "Aaron, Michael, Piano Course, V8WvKK-1b2c.mid",
        "Aarons, Alfred E., Brother, O Brother, -iet2Krl6Ww.mid",
        "Aarons, Alfred E., Brother, o brother, SLNJF0uiqRw.mid",
        "Abel, Frederic, Another Title, V8WvKK-1b2c.mid",
        "Abel, Frederic, Lola Polka, SLNJF0uiqR_.mid",
    ]
    for i, name in enumerate(names):
        put(tmp_path / "giant" / "midis" / name, compose(i))
    put(tmp_path / "giant" / "surname_checked_midis" / names[0], compose(0))
    put(tmp_path / "giant" / "another.mid", compose(7))
    return tmp_path / "giant"


def test_giantmidi_reads_names_with_commas_and_makes_one_piece_of_a_title_or_a_video(giantmidi, tmp_path):
    summary, pieces = ingest("giantmidi", giantmidi, tmp_path / "corpus")
    assert summary.pieces == summary.pseudo_bars == 5
    assert {piece.title for piece in pieces.values()} == {
        "Piano Course",
        "Brother, O Brother",
        "Brother, o brother",
        "Another Title",
        "Lola Polka",
    }
    assert pieces["midis/Aaron, Michael, Piano Course, V8WvKK-1b2c.mid"].composer == "Michael Aaron"
    ids = [piece.piece_id for _, piece in sorted(pieces.items())]
    assert ids[0] == ids[3]  # one video
    assert ids[1] == ids[2]  # one title
    assert len(set(ids)) == 3


def test_giantmidis_table_has_a_split_that_can_be_used(giantmidi, tmp_path):
    name = "full_music_pieces_youtube_similarity_pianosoloprob_split.csv"
    rows = [("V8WvKK-1b2c", "test"), ("-iet2Krl6Ww", "train"), ("SLNJF0uiqRw", "train"), ("SLNJF0uiqR_", "validation")]
    lines = ["surname\tfirstname\tmusic\tyoutube_id\tsplit", *(f"A\tB\tC, D\t{row[0]}\t{row[1]}" for row in rows)]
    (giantmidi / "metadata").mkdir()
    (giantmidi / "metadata" / name).write_text("\n".join(lines) + "\n")
    _, pieces = ingest("giantmidi", giantmidi, tmp_path / "corpus", uses_official_split=True)
    splits = {piece.title: piece.split for piece in pieces.values()}
    assert splits["Lola Polka"] == "valid"
    assert splits["Piano Course"] == splits["Another Title"] == "test"
    assert splits["Brother, O Brother"] == "train"
    (giantmidi / "metadata" / name).write_text("surname,split\n")
    with pytest.raises(CorpusError, match="lacks the columns"):
        load_listing("giantmidi", giantmidi)


def index_xlsx(path, rows):
    book = Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)


@pytest.fixture
def pop909(tmp_path):
    root = tmp_path / "POP909-Dataset-master" / "POP909"
    for i, song in enumerate(["001", "002"]):
        put(root / song / f"{song}.mid", compose(10 * i))
        put(root / song / "versions" / f"{song}-v1.mid", compose(10 * i + 1))
        for name in ("beat_audio", "beat_midi", "chord_audio", "chord_midi", "key_audio"):
            (root / song / f"{name}.txt").write_text("0.0 1.0 1.0\n")
    index_xlsx(root / "index.xlsx", [["song_id", "name", "artist"], [1, "一个歌", "一位歌手"], [2, "Two", "B"]])
    return root


@pytest.mark.parametrize("above", [0, 1, 2])
def test_pop909_keeps_a_songs_versions_together_and_has_its_name(pop909, tmp_path, above):
    folder = [pop909, *pop909.parents][above]
    _, pieces = ingest("pop909", folder, tmp_path / "corpus")
    songs = {path.rpartition("/")[2]: piece for path, piece in pieces.items()}
    assert songs["001.mid"].piece_id == songs["001-v1.mid"].piece_id == "pop909 001"
    assert songs["002.mid"].piece_id == "pop909 002"
    assert (songs["001-v1.mid"].title, songs["001.mid"].composer) == ("一个歌", "一位歌手")
    assert songs["002.mid"].styles == ("pop", "piano")


def test_the_collections_composers_and_styles_have_tags_of_the_vocabulary():
    named = ["Johann Sebastian Bach / Ferruccio Busoni", "Béla Bartók", "Frédéric Chopin", "Liszt", "Nobody", ""]
    tags = [composer_of(Piece("a.midi", composer=name)) for name in named]
    assert tags == ["Bach", "Bartok", "Chopin", "Liszt", None, None]
    assert style_of(Piece("a.midi", styles=("classical", "piano", "performance"))) == "classical"
    assert style_of(Piece("a.mid", styles=("pop", "piano"))) == "pop"


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_an_error_for_a_wrong_folder_names_the_expected_files(name, tmp_path):
    put(tmp_path / "music" / "song.mid", compose(0))
    with pytest.raises(CorpusError, match=r"is not .*: looked for .*; give the folder it was unpacked into"):
        load_listing(name, tmp_path / "music")
    (tmp_path / "music" / "midis.zip").write_bytes(b"PK")
    with pytest.raises(CorpusError, match=r"unpack midis\.zip first"):
        load_listing(name, tmp_path / "music")
    with pytest.raises(CorpusError, match="is no folder"):
        load_listing(name, tmp_path / "nowhere")


def test_damaged_tables_and_missing_columns_are_refused(maestro, lakh, pop909):
    (maestro / "maestro-v3.0.0.csv").write_text("canonical_composer,split\nA,train\n")
    with pytest.raises(CorpusError, match="lacks the columns canonical_title, midi_filename"):
        load_listing("maestro", maestro)
    (maestro / "maestro-v3.0.0.csv").unlink()
    (maestro / "maestro-v3.0.0.json").write_text('{"split": {}}')
    with pytest.raises(CorpusError, match="not MAESTRO's table"):
        load_listing("maestro", maestro)
    (lakh / "match_scores.json").write_text("{]")
    with pytest.raises(CorpusError, match="not JSON"):
        load_listing("lakh", lakh)
    (lakh / "match_scores.json").write_text('{"TR": 3}')
    with pytest.raises(CorpusError, match="match_scores"):
        load_listing("lakh", lakh)
    (pop909 / "index.xlsx").write_bytes(b"no archive")
    with pytest.raises(CorpusError, match="cannot be read as a sheet"):
        load_listing("pop909", pop909)


def test_only_a_dataset_with_a_split_accepts_the_option(pop909):
    with pytest.raises(CorpusError, match="publishes no split"):
        load_listing("pop909", pop909, uses_official_split=True)


def test_the_command_takes_a_dataset(maestro, tmp_path, capsys):
    command = ["ingest", "--no-ray", "--dataset", "maestro", str(maestro)]
    assert main([*command, "--official-split", "--out", str(tmp_path / "corpus")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "pieces kept 4 train 2 valid 1 test 1" in printed
    assert "pieces with pseudo-bars (no usable metre) 4" in printed
    assert main(["ingest", "--no-ray", "--dataset", "lakh", str(maestro), "--out", str(tmp_path / "other")]) == 2
    assert "is not the Lakh MIDI dataset" in capsys.readouterr().err
    assert main(["ingest", "--no-ray", "--official-split", str(maestro), "--out", str(tmp_path / "other")]) == 2
    assert "--dataset" in capsys.readouterr().err
    assert sorted(LOADERS) == sorted(DATASETS)


def requantised(score, steps, rng):
    """Return the score as another program would have saved it: on a coarser grid, a little out of time before."""
    tick = score.ticks_per_quarter // steps

    def moved(note):
        shaken = note.onset + int(rng.integers(-tick // 4, tick // 4 + 1))
        return note._replace(onset=max(0, round(shaken / tick) * tick), velocity=int(rng.integers(40, 100)))

    return map_notes(score, moved)


def test_near_duplicates_never_cross_a_split(tmp_path):
    """Each song as it is, in two other keys, on a grid of sixteenths at another resolution, with a track left out."""
    rng, songs = np.random.default_rng(0), 40
    for seed in range(songs):
        score = compose(seed)
        first_and_rest = Score(score.ticks_per_quarter, score.tracks[:-1], score.tempos, score.time_signatures)
        twins = {
            "as it is": score,
            "higher": transpose(score, 3),
            "lower": transpose(score, -4),
            "requantised": requantised(score, 4, rng),
            "without the last track": first_and_rest,
        }
        for name, twin in twins.items():
            put(tmp_path / "music" / name / f"{seed:02}.mid", twin)
    out = tmp_path / "corpus"
    for plan in plan_shards(find_files([tmp_path / "music"]), out):
        fill_shard(plan, out)
    finish(out)
    corpus = Corpus.open(out)
    splits, ids = {}, {}
    for i in range(len(corpus)):
        piece = corpus.piece(i)
        song = piece.path.rpartition("/")[2]
        splits.setdefault(song, set()).add(piece.split)
        ids.setdefault(song, set()).add(piece.piece_id)
    assert len(splits) == songs
    assert {len(names) for names in ids.values()} == {1}, {song for song, names in ids.items() if len(names) > 1}
    assert all(len(found) == 1 for found in splits.values())
    # Held-out splits are not empty, or nothing could have crossed.
    assert {"train"} < {split for found in splits.values() for split in found}
    assert len({next(iter(names)) for names in ids.values()}) == songs


def test_a_short_performance_is_not_metred_by_chance():
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(40):
        onsets = np.sort(rng.integers(0, 480 * 16, size=30))
        notes = tuple(Note(int(onset), 200, int(rng.integers(40, 80)), 80) for onset in onsets)
        parsed = read_file(write_midi(Score(480, (Track(notes),))))
        assert isinstance(parsed, Parsed)
        passed += not parsed.has_pseudo_bars
    assert passed <= 6
