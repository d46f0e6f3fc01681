"""Write a corpus of songs by the bundled composer, for trying training without music files."""

from __future__ import annotations

from pathlib import Path

from harmonixr_model.data.corpus import Piece, shard_records, write_manifest, write_shard
from harmonixr_model.music.compose import compose
from harmonixr_model.notes.grid import quantize

HELD_OUT = 4  # every fourth song is for validation


def write_composed_corpus(folder: Path, *, pieces: int, seed: int = 0, bars: int = 16) -> Path:
    """Compose `pieces` songs of `bars` bars into a corpus and return its folder; an existing corpus is not changed."""
    if (folder / "manifest.jsonl").is_file():
        return folder
    songs = []
    for number in range(pieces):
        score = quantize(compose(1000 * seed + number, bars=bars))
        notes = sum(len(track.notes) for track in score.tracks)
        songs.append((Piece(path=f"composed-{seed}-{number}", notes=notes), score))
    write_shard(folder, "00000", songs)
    records = [
        record
        | {
            "shard": shard,
            "piece_id": record["path"],
            "split": "valid" if number % HELD_OUT == 0 else "train",
            "source": "composed",
            "licence": "composed by this project",
        }
        for number, (shard, record) in enumerate(shard_records(folder))
    ]
    write_manifest(folder, records, made={"pieces": pieces, "seed": seed, "bars": bars})
    return folder
