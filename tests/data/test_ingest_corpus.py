"""Ingest on the folder of real files named by HARMONIXR_TEST_DATA: .mid files and .tar.xz archives."""

import os
import random
import tarfile
from pathlib import Path

import pytest

from harmonixr_model.data.build import finish
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import DatasetConfig, InfillDataset
from harmonixr_model.data.ingest import Parsed, Rejected, read_file
from harmonixr_model.data.shards import fill_shard, find_files, plan_shards
from harmonixr_model.notes.grid import quantize

pytestmark = [pytest.mark.corpus, pytest.mark.timeout(1800)]
SAMPLE = 120


@pytest.fixture(scope="module")
def folder():
    named = os.environ.get("HARMONIXR_TEST_DATA", "")
    if not named or not Path(named).is_dir():
        pytest.skip("HARMONIXR_TEST_DATA names no folder of MIDI files")
    return Path(named)


def ingest(folder, out):
    for plan in plan_shards(find_files([folder]), out):
        fill_shard(plan, out)
    return finish(out)


def test_no_malformed_file_stops_a_run(folder, tmp_path):
    if not (folder / "broken").is_dir():
        pytest.skip("there is no folder `broken`")
    summary = ingest(folder / "broken", tmp_path)
    assert summary.files == len(find_files([folder / "broken"]))
    assert summary.files == summary.pieces + summary.exact_duplicates + sum(summary.rejected.values())
    for path in (folder / "broken").iterdir():
        assert isinstance(read_file(path.read_bytes()), Parsed | Rejected), path.name


def test_real_music_parses_and_three_tenths_of_its_tokens_carry_loss(folder, tmp_path):
    archives = sorted(folder.glob("permissive*.tar.xz"))
    if not archives:
        pytest.skip("there is no archive permissive*.tar.xz")
    with tarfile.open(archives[0]) as bundle:
        members = [m for m in bundle.getmembers() if m.isfile() and m.name.endswith(".mid")]
        for member in sorted(random.Random(0).sample(members, SAMPLE), key=lambda m: m.offset):
            source = bundle.extractfile(member)
            assert source is not None
            target = tmp_path / "music" / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read())
    summary = ingest(tmp_path / "music", tmp_path / "corpus")
    assert summary.files == SAMPLE
    assert set(summary.rejected) <= {"too_short", "empty", "too_long"}
    corpus = Corpus.open(tmp_path / "corpus")
    assert all(corpus.score(i) == quantize(corpus.score(i)) for i in range(0, len(corpus), 10))
    dataset = InfillDataset(corpus, DatasetConfig(max_tokens=1024))
    examples = [dataset.example(index, step=0, seed=0) for index in range(200)]
    assert sum(e.loss_mask.sum() for e in examples) / sum(len(e.tokens) for e in examples) >= 0.3
