"""The promises of reading and splicing on a folder of real files, named by HARMONIXR_TEST_DATA.

The folder holds .mid files (anywhere below it) or .tar.xz archives of them; below a folder named `broken` lie files
that may be refused, but never worse. HARMONIXR_TEST_DATA_LIMIT samples that many files (0: all; default 300).
"""

from __future__ import annotations

import os
import random
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harmonixr_model.errors import MidiError
from harmonixr_model.music.region import Cell, Region
from harmonixr_model.music.score import Note
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice

pytestmark = [pytest.mark.corpus, pytest.mark.timeout(7200)]
_SUFFIXES = {".mid", ".midi", ".kar", ".rmi", ".smf"}


@pytest.fixture(scope="module")
def folder() -> Path:
    named = os.environ.get("HARMONIXR_TEST_DATA", "")
    if not named or not Path(named).is_dir():
        pytest.skip("HARMONIXR_TEST_DATA names no folder of MIDI files")
    return Path(named)


def _members(folder: Path, limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield files evenly sampled from the folder and its archives, by name."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    archives = sorted(folder.glob("*.tar.xz"))
    share = limit and max(1, limit // (len(archives) + bool(paths)))
    for path in _sampled(paths, share):
        yield str(path.relative_to(folder)), path.read_bytes()
    for archive in archives:
        with tarfile.open(archive) as bundle:
            members = [m for m in bundle.getmembers() if m.isfile() and Path(m.name).suffix.lower() in _SUFFIXES]
            for member in sorted(_sampled(members, share), key=lambda m: m.offset):
                content = bundle.extractfile(member)
                assert content is not None
                yield f"{archive.name}:{member.name}", content.read()


def _sampled(found: list, limit: int) -> list:
    return found if not limit or len(found) <= limit else random.Random(0).sample(found, limit)


def test_real_files_keep_the_invariants(folder, preserved, record_property):
    limit = int(os.environ.get("HARMONIXR_TEST_DATA_LIMIT", "300"))
    count: Counter[str] = Counter()
    slowest = (0.0, "")
    for name, data in _members(folder, limit):
        before = time.process_time()
        try:
            song = Song.parse(data)
        except MidiError as error:
            count["refused"] += 1
            count[f"refused: {str(error)[:40]}"] += 1
            continue
        slowest = max(slowest, (time.process_time() - before, name))
        count["read"] += 1
        count["notes"] += sum(len(track.notes) for track in song.score.tracks)
        try:
            _check(song, random.Random(name), preserved, count)
        except Exception as error:
            error.add_note(f"in {name}")
            raise
    for key, value in [*sorted(count.items()), ("slowest read", slowest)]:
        record_property(key, value)
        print(key, value)  # noqa: T201 - shown by pytest -s
    assert count["read"] > 0
    assert count["refused"] <= 0.05 * (count["read"] + count["refused"]) or "broken" in str(folder)


def _check(song: Song, rng: random.Random, preserved, count: Counter[str]) -> None:
    assert splice(song, Region(), {}).midi == song.midi.source
    if not song.score.tracks:
        return
    region = _region(song, rng)
    removed = {i: [n for n in song.score.tracks[i].notes if region.contains(i, n)] for i in region.tracks}
    refilled = splice(song, region, removed)
    preserved(song, region, refilled)
    count["re-inserted"] += sum(map(len, refilled.notes.values()))
    count["re-inserted, left out"] += refilled.dropped
    region = _region(song, rng)
    noise = {t: [_note(c, rng) for c in region.cells if c.track == t for _ in range(8)] for t in region.tracks}
    filled = splice(song, region, noise)
    preserved(song, region, filled)
    count["new notes"] += sum(map(len, filled.notes.values()))
    count["new notes, left out"] += filled.dropped


def _region(song: Song, rng: random.Random) -> Region:
    bars, every = song.score.bars, range(len(song.score.tracks))
    first = rng.randrange(len(bars))
    last = min(len(bars) - 1, first + rng.randrange(8))
    tracks = rng.sample(every, rng.randint(1, len(every)))
    cells = tuple(Cell(t, bars[first].start, bars[last].end) for t in tracks)
    return Region(cells, rng.choice([0, 0, 48]), rng.choice([127, 127, 72]))


def _note(cell: Cell, rng: random.Random) -> Note:
    onset = rng.randrange(cell.start, cell.end)
    return Note(onset, rng.randint(1, cell.end - cell.start), rng.randint(48, 72), rng.randint(1, 127))


def test_broken_files_are_read_or_refused_in_time(folder):
    broken = [p for p in sorted(folder.rglob("*")) if "broken" in p.parts and p.suffix.lower() in _SUFFIXES]
    if not broken:
        pytest.skip(f"there is no folder named broken with MIDI files below {folder}")
    for path in broken:
        before = time.process_time()
        try:
            assert Song.parse(path.read_bytes()).midi.source == path.read_bytes()
            outcome = "read"
        except MidiError as error:
            outcome = f"refused: {error}"
        print(path.name, outcome)  # noqa: T201 - as above
        assert time.process_time() - before < 5, path.name
