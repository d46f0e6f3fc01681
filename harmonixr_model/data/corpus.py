"""A corpus on disk: shards of notes opened by memory map, and a manifest of the pieces.

    corpus.json              format, counts, how it was made
    shards/00000.npy         notes of many pieces, one after another (NOTE below)
    shards/00000.jsonl       those pieces: tracks, tempos, metres, fingerprint
    manifest.jsonl           the pieces of the corpus, with piece_id and split; written last, so it marks completion

Scores are on the token grid, already quantized. Reading needs numpy alone. Files `shards/*.micro.npy` of corpora from
version 0.1.0 are ignored.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harmonixr_model.data.splits import hashed_share
from harmonixr_model.errors import CorpusError
from harmonixr_model.music.score import Note, Score, Tempo, TimeSignature, Track
from harmonixr_model.notes.grid import GRID

FORMAT = 1
SPLITS = ("train", "valid", "test")
# Steps, the vocabulary's durations, MIDI pitch and velocity: 8 bytes a note.
NOTE = np.dtype([("onset", "<i4"), ("duration", "<u2"), ("pitch", "u1"), ("velocity", "u1")])
_OPEN_SHARDS = 16


@dataclass(frozen=True, slots=True)
class Piece:
    """The record of a piece, without its notes."""

    path: str  # of its file, relative to the ingested folder
    source: str = ""
    title: str = ""
    composer: str = ""
    licence: str = ""
    piece_id: str = ""  # shared by near-duplicates, which are always in the same split
    split: str = ""
    has_pseudo_bars: bool = False  # whether its file had no usable metre, so that its 4/4 bars mean nothing
    notes: int = 0
    notes_hash: str = ""  # the same for files with the same notes
    fingerprint: tuple[int, ...] = field(default=(), repr=False)  # a min-hash signature, the same in every key
    styles: tuple[str, ...] = ()  # tags of its collection, for instance `classical`


def write_atomically(path: Path, data: bytes, *, syncs: bool = True) -> None:
    """Write a file completely or not at all; without `syncs`, a power failure may still lose it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        if syncs:
            os.fsync(file.fileno())
    os.replace(temporary, path)


def write_shard(folder: Path, name: str, pieces: Iterable[tuple[Piece, Score]]) -> int:
    """Write one shard and return its number of notes; the .jsonl is written last and marks completion."""
    shards = folder / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    found: list[Note] = []
    lines: list[str] = []
    for piece, score in pieces:
        lines.append(json.dumps(_piece_record(piece, score, len(found)), separators=(",", ":")))
        for track in score.tracks:
            found += track.notes
    _save(shards / f"{name}.npy", np.array(found, dtype=NOTE))
    write_atomically(shards / f"{name}.jsonl", "".join(line + "\n" for line in lines).encode())
    return len(found)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    np.save(temporary, array)
    os.replace(temporary, path)


def _piece_record(piece: Piece, score: Score, first: int) -> dict[str, Any]:
    tracks = []
    for track in score.tracks:
        tracks.append([track.program, int(track.is_drum), track.name, track.channel, first, len(track.notes)])
        first += len(track.notes)
    return {
        "path": piece.path,
        "notes_hash": piece.notes_hash,
        "fingerprint": list(piece.fingerprint),
        "has_pseudo_bars": piece.has_pseudo_bars,
        "notes": piece.notes,
        "tracks": tracks,
        "tempos": [list(tempo) for tempo in score.tempos],
        "metres": [list(metre) for metre in score.time_signatures],
    }


def shard_records(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (shard name, record) of every piece in every complete shard, in order."""
    for path in sorted((folder / "shards").glob("[0-9]*[0-9].jsonl")):
        for line in path.read_text().splitlines():
            yield path.stem, json.loads(line)


def write_manifest(folder: Path, records: Iterable[Mapping[str, Any]], *, made: Mapping[str, Any]) -> None:
    """Complete a corpus: `records` are shard records with shard, piece_id, split, source and licence added."""
    lines = [json.dumps(record, separators=(",", ":")) for record in records]
    write_atomically(folder / "corpus.json", json.dumps({"format": FORMAT, **made}, indent=1).encode())
    write_atomically(folder / "manifest.jsonl", "".join(line + "\n" for line in lines).encode())


class Corpus:
    """Pieces by number. Opening reads the manifest; notes are read when needed."""

    def __init__(self, folder: Path, made: dict[str, Any], records: list[dict[str, Any]]) -> None:
        self.folder = folder
        self.made = made
        self._records = records
        self._shard = lru_cache(_OPEN_SHARDS)(self._open_shard)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Corpus:
        """Open a corpus that `harmonixr ingest` has finished; raises CorpusError."""
        folder = Path(folder)
        try:
            made = json.loads((folder / "corpus.json").read_text())
            records = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
        except FileNotFoundError as error:
            raise CorpusError(
                f"{folder} holds no finished corpus ({Path(error.filename).name} is missing); "
                f"make one with `harmonixr ingest FOLDER --out {folder}`"
            ) from None
        except ValueError as error:
            raise CorpusError(f"{folder} is damaged ({error}); ingest it again") from None
        if made.get("format") != FORMAT:
            raise CorpusError(f"{folder} has format {made.get('format')}, this version reads {FORMAT}; ingest it again")
        return cls(folder, made, records)

    def __len__(self) -> int:
        return len(self._records)

    def __reduce__(self) -> tuple[type[Corpus], tuple[Path, dict[str, Any], list[dict[str, Any]]]]:
        return type(self), (self.folder, self.made, self._records)

    def split(self, name: str) -> list[int]:
        """Return the numbers of the pieces of a split."""
        if name not in SPLITS:
            raise CorpusError(f"there is no split {name!r}; choose one of {', '.join(SPLITS)}")
        return [i for i, record in enumerate(self._records) if record["split"] == name]

    def piece(self, index: int) -> Piece:
        """Return the record of a piece."""
        record = self._records[index]
        known = {name: record[name] for name in Piece.__dataclass_fields__ if name in record}
        listed = {"fingerprint": tuple(record["fingerprint"]), "styles": tuple(record.get("styles", ()))}
        return Piece(**known | listed)

    def score(self, index: int) -> Score:
        """Return a piece as a grid score."""
        record = self._records[index]
        rows = self._shard(record["shard"])

        def notes(first: int, count: int) -> tuple[Note, ...]:
            return tuple(Note(*row) for row in rows[first : first + count].tolist())

        return Score(
            ticks_per_quarter=GRID,
            tracks=tuple(
                Track(notes(first, count), program, bool(is_drum), name, channel)
                for program, is_drum, name, channel, first, count in record["tracks"]
            ),
            tempos=tuple(Tempo(*tempo) for tempo in record["tempos"]),
            time_signatures=tuple(TimeSignature(*metre) for metre in record["metres"]),
        )

    def _open_shard(self, name: str) -> npt.NDArray[Any]:
        try:
            notes: npt.NDArray[Any] = np.load(self.folder / "shards" / f"{name}.npy", mmap_mode="r")
        except (OSError, ValueError) as error:
            raise CorpusError(f"{self.folder}: shard {name} cannot be read ({error}); ingest it again") from None
        return notes


def hold_out(folder: Path, *, share: float) -> dict[str, int]:
    """Split a finished corpus again into train and valid, where it is too small for a split by hash; return the counts.

    About `share` of the pieces, at least one, are held out. The choice depends on their piece_ids alone, and
    near-duplicates stay together. Raises CorpusError where there are not two different pieces.
    """
    corpus = Corpus.open(folder)
    records = corpus._records
    names = sorted({record["piece_id"] for record in records}, key=hashed_share)
    if len(names) < 2:
        raise CorpusError(f"{folder} has {len(names)} piece that can be read; give at least two different ones")
    held_out = set(names[: min(len(names) - 1, max(1, round(share * len(names))))])
    split = [record | {"split": "valid" if record["piece_id"] in held_out else "train"} for record in records]
    write_manifest(folder, split, made=corpus.made)
    return dict(Counter(record["split"] for record in split))
