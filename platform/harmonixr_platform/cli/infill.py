"""`harmonixr infill`: fill a region of a MIDI file on this machine, with no server and no network."""

from __future__ import annotations

import argparse
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harmonixr_model.errors import ControlError, RegionError
from harmonixr_platform.cli.files import check_output, read_song, write_whole
from harmonixr_platform.cli.infill_options import (
    add_arguments,
    attribute_controls_of,
    constraints_of,
    region_of,
    sampling_of,
    with_option_names,
)
from harmonixr_platform.cli.progress import progress_bar

if TYPE_CHECKING:
    from harmonixr_model.fill.infiller import Fill, Infiller
    from harmonixr_model.music.region import Region
    from harmonixr_model.music.score import Track
    from harmonixr_model.music.song import Song

__all__ = ["add_arguments", "run"]

MAX_CANDIDATES = 64
# A seed that a person can type again.
SEEDS = 10**6


def run(args: argparse.Namespace) -> int:
    """Fill and write; return 0."""
    try:
        return _run(args)
    except ControlError as error:
        raise ControlError(with_option_names(str(error))) from error


def _run(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    song = read_song(args.song)
    if args.list:
        print(listing(song))
        return 0
    # Every error of the request is found before torch is imported.
    targets = _targets(args)
    region, new_track = region_of(args, song)
    constraints, controls, sampling = constraints_of(args), attribute_controls_of(args), sampling_of(args)
    seed = secrets.randbelow(SEEDS) if args.seed is None else args.seed
    with progress_bar("loading the model") as bar:
        infiller = _load(args.model)
        fills = infiller.fill(
            song,
            region,
            constraints=constraints,
            controls=controls,
            field=args.only,
            n=args.n,
            seed=seed,
            sampling=sampling,
            new_track=new_track,
            progress=lambda done, total: bar.set_description_str(f"filling, {done} of {total} windows"),
        )
        bar.set_description_str("writing")
        for fill, (midi, wav) in zip(fills, targets, strict=True):
            write_whole(midi, fill.midi)
            if wav:
                write_whole(wav, _sound(song, region, fill))
    for fill, (midi, wav) in zip(fills, targets, strict=True):
        print(f"{midi}{f' and {wav}' if wav else ''}: {_summary(song, fill, new_track, only=args.only)}")
    print(f"{len(fills)} {'fill' if len(fills) == 1 else 'fills'} in {time.perf_counter() - started:.1f} s")
    return 0


def listing(song: Song) -> str:
    """Return a song's tracks, bars and beats as text."""
    from harmonixr_model.music.region_text import beat_starts

    score = song.score
    lines = [
        f"{len(score.bars)} bars, {len(beat_starts(score)) - 1} beats, {score.seconds(score.end):.1f} s, "
        f"{score.ticks_per_quarter} ticks a quarter"
    ]
    metres = [bar for i, bar in enumerate(score.bars) if i == 0 or bar[3:] != score.bars[i - 1][3:]]
    lines.append("metre: " + ", ".join(f"{b.numerator}/{b.denominator} from bar {b.index + 1}" for b in metres))
    for number, track in enumerate(score.tracks, start=1):
        sound = "drums" if track.is_drum else f"program {track.program}"
        playing = {i for i, bar in enumerate(score.bars) if any(bar.start <= n.onset < bar.end for n in track.notes)}
        span = f"bars {min(playing) + 1}-{max(playing) + 1}" if playing else "silent"
        lines.append(f"track {number}  {track.name or '(no name)'}: {sound}, {len(track.notes)} notes, {span}")
    return "\n".join(lines if score.tracks else [*lines, "no track has notes"])


def _targets(args: argparse.Namespace) -> list[tuple[Path, Path | None]]:
    """Return the MIDI and sound file of each candidate; raises FileError where one cannot be written."""
    if not 1 <= args.n <= MAX_CANDIDATES:
        raise ControlError(f"--n {args.n} is out of range; give 1 to {MAX_CANDIDATES}")
    if args.output is None:
        raise RegionError("give the file to write with -o OUT.mid, or print the song with --list")
    pairs = [(_numbered(args.output, i, args.n), args.wav and _numbered(args.wav, i, args.n)) for i in range(args.n)]
    for path in [path for pair in pairs for path in pair if path]:
        check_output(path, inputs=[args.song], force=args.force)
    return pairs


def _numbered(path: Path, index: int, count: int) -> Path:
    return path if count == 1 else path.with_name(f"{path.stem}.{index + 1}{path.suffix}")


def _load(path: Path | None) -> Infiller:
    import torch

    from harmonixr_model.fill.infiller import Infiller

    # One thread: models this small gain little from more, and sums then round alike on every machine.
    torch.set_num_threads(1)
    return Infiller.load(path)


def _sound(song: Song, region: Region, fill: Fill) -> bytes:
    """Return the fill with two bars before it and one after, as a WAV file."""
    from harmonixr_model.music.song import Song
    from harmonixr_model.music.synth import render, wav_bytes

    bars = song.score.bars_until(region.end + 1)
    first = next(bar.index for bar in bars if bar.start <= region.start < bar.end)
    filled = Song.parse(fill.midi).score
    start = bars[max(0, first - 2)].start
    end = bars[-1].end
    return wav_bytes(render(filled, start_s=filled.seconds(start), end_s=filled.seconds(end)))


def _summary(song: Song, fill: Fill, new_track: Track | None, *, only: str | None) -> str:
    names = [track.name for track in (*song.score.tracks, *([new_track] if new_track else []))]
    counts = [
        f"{names[track] or f'track {track + 1}'} {len(notes)}" for track, notes in sorted(fill.notes.items()) if notes
    ]
    total = sum(len(notes) for notes in fill.notes.values())
    text = f"{total} {'note' if total == 1 else 'notes'}"
    text += f" ({', '.join(counts)})" if counts else ", nothing added"
    done = "left unchanged" if only else "dropped"
    dropped = f", {fill.dropped} {done} that would have changed other notes" if fill.dropped else ""
    return f"{text}{dropped}, seed {fill.seed}"
