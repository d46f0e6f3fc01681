"""Speed of tokenizing files and of inserting fills into files, compared with symusic + MidiTok and pretty_midi.

    python benchmarks/reading.py [--midi FOLDER] [--files 24] [--rounds 5]

Without a folder, songs are composed. Results are CPU times of the best round, because other processes only add time.
Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import symusic

from harmonixr_model.music.bulk_reader import read_score
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_model.music.splice import splice
from harmonixr_model.notes.tokenizer import encode

Job = Callable[[bytes], Any]
GAP_BARS = (8, 11)


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--midi", type=Path, help="a folder of MIDI files")
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    # pretty_midi warns of unsupported events, which do not matter here.
    warnings.simplefilter("ignore")
    files = chosen(args.midi, args.files)
    notes = sum(len(track.notes) for data in files for track in read_score(data).tracks)
    print(f"{len(files)} files of {notes / len(files):.0f} notes; CPU time, best of {args.rounds} rounds\n")
    table("load and tokenise", readers(), files, notes, args.rounds, ours="ours, in bulk")
    print()
    edits = {id(data): Splicing(data) for data in files}
    table("insert four bars", splicers(edits), files, notes, args.rounds, ours="ours, lossless")
    return 0


def chosen(folder: Path | None, count: int) -> list[bytes]:
    """Return the files to read."""
    if folder is None:
        return [compose_song(seed, bars=64) for seed in range(count)]
    paths = sorted(folder.rglob("*.mid"))[:count]
    if not paths:
        sys.exit(f"{folder} holds no .mid files; give another folder, or none for composed songs")
    return [path.read_bytes() for path in paths]


def readers() -> dict[str, Job]:
    """Return the jobs that tokenize a file."""
    jobs: dict[str, Job] = {
        "ours, in bulk": lambda data: encode(read_score(data)),
        "ours, for editing": lambda data: encode(Song.parse(data).score),
        "symusic alone": symusic.Score.from_midi,
        "pretty_midi, load alone": load_pretty,
    }
    if find_spec("miditok"):
        from miditok import REMI, TSD, TokenizerConfig

        config = TokenizerConfig(use_programs=True, use_tempos=True, use_time_signatures=True)
        for kind in (REMI, TSD):
            tokenizer = kind(config)
            jobs[f"symusic + MidiTok {kind.__name__}"] = lambda data, t=tokenizer: t(symusic.Score.from_midi(data))
    return jobs


def load_pretty(data: bytes) -> Any:
    """Parse a file with pretty_midi."""
    from pretty_midi import PrettyMIDI

    return PrettyMIDI(io.BytesIO(data))


class Splicing:
    """A song, a gap in its first track, and the fill: the gap's own notes with other pitches."""

    def __init__(self, data: bytes) -> None:
        self.song = Song.parse(data)
        bars = self.song.score.bars
        first = min(GAP_BARS[0], len(bars) // 2)
        last = min(GAP_BARS[1], len(bars) - 1)
        self.region = Region.bars(self.song.score, first, last, [0])
        start, end = bars[first].start, bars[last].end
        inside = [n for n in self.song.score.tracks[0].notes if start <= n.onset < end]
        self.fill = [note._replace(pitch=note.pitch ^ 1) for note in inside]
        self.start, self.end = start, end


def splicers(edits: dict[int, Splicing]) -> dict[str, Job]:
    """Return the jobs that fill the gap. Ours has parsed the file before; peers parse it, as they edit no files."""

    def ours(data: bytes) -> bytes:
        edit = edits[id(data)]
        return splice(edit.song, edit.region, {0: edit.fill}).midi

    def by_symusic(data: bytes) -> bytes:
        edit, score = edits[id(data)], symusic.Score.from_midi(data)
        notes = [n for n in score.tracks[0].notes if not edit.start <= n.time < edit.end]
        notes += [symusic.Note(n.onset, n.duration, n.pitch, n.velocity) for n in edit.fill]
        score.tracks[0].notes = type(score.tracks[0].notes)(notes)
        return bytes(score.dumps_midi())

    def by_pretty_midi(data: bytes) -> bytes:
        from pretty_midi import Note

        edit, pretty = edits[id(data)], load_pretty(data)
        start, end = pretty.tick_to_time(edit.start), pretty.tick_to_time(edit.end)
        part = pretty.instruments[0]
        part.notes = [n for n in part.notes if not start <= n.start < end] + [
            Note(n.velocity, n.pitch, pretty.tick_to_time(n.onset), pretty.tick_to_time(n.end)) for n in edit.fill
        ]
        out = io.BytesIO()
        pretty.write(out)
        return out.getvalue()

    return {
        "ours, lossless": ours,
        "symusic, read and written": by_symusic,
        "pretty_midi, read and written": by_pretty_midi,
    }


def table(title: str, jobs: dict[str, Job], files: list[bytes], notes: int, rounds: int, *, ours: str) -> None:
    """Run all jobs in turn; print milliseconds per file, notes per second, and the ratio to our time."""
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(rounds):
        for name, job in jobs.items():
            started = time.process_time()
            for data in files:
                job(data)
            best[name] = min(best[name], time.process_time() - started)
    print(f"{title:<32}{'ms per file':>12}{'notes/s':>13}{'ratio to ours':>15}")
    for name, seconds in best.items():
        each = 1000 * seconds / len(files)
        print(f"{name:<32}{each:>12.2f}{notes / seconds:>13,.0f}{seconds / best[ours]:>15.1f}")


if __name__ == "__main__":
    sys.exit(main())
