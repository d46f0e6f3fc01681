"""`harmonixr infill`: fill a region of a MIDI file on this machine, with no server and no network."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harmonixr_model.errors import ControlError, RegionError
from harmonixr_platform.cli.files import check_output, read_song, write_whole

if TYPE_CHECKING:
    from harmonixr_model.engine.engine import Sampling
    from harmonixr_model.fill.infiller import Fill, Infiller
    from harmonixr_model.grammar.constraints import Constraints
    from harmonixr_model.music.region import Region
    from harmonixr_model.music.score import Track
    from harmonixr_model.music.song import Song
    from harmonixr_model.prompt.controls import AttributeControls

EPILOG = """
Bars, beats and tracks are counted from 1 and ranges include both ends. Everything outside the region stays as it is.
  harmonixr infill song.mid --list
  harmonixr infill song.mid --bars 9-12 --tracks 2 -o out.mid
  harmonixr infill song.mid --beats 33-36 --tracks Piano,Bass --key "G major" --n 4 -o out.mid
  harmonixr infill song.mid --bars 9-12 --tracks 1 --chords "C | Am" --chord-tones-only --density 2 --enforce -o out.mid
  harmonixr infill song.mid --bars 9-12 --only velocity -o humanised.mid
  harmonixr infill song.mid --continue 4 -o longer.mid
  harmonixr infill song.mid --bars 1-8 --new-track "Acoustic Bass" --max-polyphony 1 -o with-bass.mid
"""
MAX_CANDIDATES = 64
# A seed that a person can type again.
SEEDS = 10**6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("song", type=Path, metavar="SONG.mid", help="the MIDI file; it is never changed")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.mid", help="where to write; several: OUT.1.mid …")
    parser.add_argument("--list", action="store_true", help="print the song's tracks, bars and beats, and fill nothing")
    parser.add_argument("--wav", type=Path, metavar="OUT.wav", help="also write how the fill sounds in its place")
    parser.add_argument("--model", type=Path, metavar="PATH", help="other weights than the shipped ones")
    parser.add_argument("--force", action="store_true", help="let OUT.mid be SONG.mid")
    _add_region(parser)
    _add_sampling(parser)
    _add_limits(parser)
    _add_controls(parser)


def _add_region(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to fill")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--bars", metavar="9-12", help="bars, also '5' or '1-4,9-12'")
    where.add_argument("--beats", metavar="33-36", help="beats of the song")
    where.add_argument("--continue", type=int, metavar="N", dest="continue_bars", help="N bars past the song's end")
    who = group.add_mutually_exclusive_group()
    who.add_argument("--tracks", metavar="2,Piano", help="numbers or names; left out: all")
    who.add_argument(
        "--new-track", metavar="PROGRAM", help="add a track: a program 0-127, an instrument's name, or 'drums'"
    )
    group.add_argument(
        "--only",
        choices=("pitch", "rhythm", "velocity", "duration"),
        help="keep the notes and change this of them alone (a rhythm is onsets and durations)",
    )
    group.add_argument("--band", metavar="60-72", help="replace only notes of these MIDI pitches")
    group.add_argument(
        "--lock",
        action="append",
        default=[],
        metavar="TRACK:TICK:PITCH",
        help="keep this note of the region; may be given again",
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    from harmonixr_model.engine.engine import temperature_text

    group = parser.add_argument_group("how to draw")
    group.add_argument("--n", type=int, default=1, metavar="N", help="how many fills (1)")
    group.add_argument("--seed", type=int, help="the same seed gives the same fill; left out: a new one, printed")
    group.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help=f"0: the likeliest notes ({temperature_text(None)})",
    )
    group.add_argument("--top-k", type=int, default=0, metavar="K", help="draw from the K likeliest tokens (0: all)")
    group.add_argument("--top-p", type=float, default=0.98, metavar="P", help="draw from this share of chance (0.98)")
    group.add_argument(
        "--copy-strength",
        type=float,
        default=1.0,
        metavar="C",
        help="how much to repeat the song: 0 as the model alone does, 1 as often as songs do (%(default)s); "
        "no effect with attribute controls or --only",
    )
    # The option's name in version 0.1.
    group.add_argument("--recall", type=float, dest="copy_strength", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits every fill keeps")
    group.add_argument("--key", metavar="'G major'", help="only notes of this scale")
    group.add_argument("--pitch-min", type=int, default=0, metavar="P", help="lowest MIDI pitch (60 is middle C)")
    group.add_argument("--pitch-max", type=int, default=127, metavar="P", help="highest MIDI pitch")
    group.add_argument("--max-polyphony", type=int, metavar="N", help="at most N notes of a track at once")
    group.add_argument("--min-notes-per-bar", type=int, metavar="N", help="at least N notes of a track in a bar")
    group.add_argument("--max-notes-per-bar", type=int, metavar="N", help="at most N notes of a track in a bar")
    group.add_argument("--velocity-min", type=int, default=1, metavar="V", help="softest velocity, 1-127")
    group.add_argument("--velocity-max", type=int, default=127, metavar="V", help="loudest velocity, 1-127")


def _add_controls(parser: argparse.ArgumentParser) -> None:
    from harmonixr_model.engine.engine import GUIDANCE

    group = parser.add_argument_group("what the model leans towards; asked, not enforced")
    group.add_argument("--density", type=float, metavar="N", help="about N notes a quarter in every track")
    group.add_argument("--polyphony", type=float, metavar="N", help="about N notes of a track at once while any sounds")
    group.add_argument("--velocity", type=float, metavar="V", help="a mean velocity of about V, 1-127")
    group.add_argument(
        "--enforce",
        action="store_true",
        help="keep density, polyphony, velocity and chord tones as limits, with any model",
    )
    group.add_argument("--chords", metavar="'C | Am F | G7'", help="the chords of each bar, repeated over the region")
    group.add_argument("--chord-tones-only", action="store_true", help="no other notes than the chords': enforced")
    group.add_argument("--key-hint", metavar="'G major'", help="a key; --key enforces its scale")
    group.add_argument("--style", metavar="NAME", help="a style that the model was trained on, such as pop")
    group.add_argument("--composer", metavar="NAME", help="a composer that the model was trained on, such as Schubert")
    group.add_argument(
        "--guidance", type=float, metavar="G", help=f"1: as the model does by itself, in half the time ({GUIDANCE:g})"
    )


def run(args: argparse.Namespace) -> int:
    """Fill and write; return 0."""
    started = time.perf_counter()
    song = read_song(args.song)
    if args.list:
        print(listing(song))
        return 0
    # Everything that can be wrong with the request is found before torch is imported.
    targets = _targets(args)
    region, new_track = _region(args, song)
    limits, controls = _limits(args), _controls(args)
    sampling = _sampling(args)
    seed = secrets.randbelow(SEEDS) if args.seed is None else args.seed
    with _Progress() as progress:
        progress.say("loading the model")
        infiller = _load(args.model)
        progress.say("filling")
        fills = infiller.fill(
            song,
            region,
            constraints=limits,
            controls=controls,
            field=args.only,
            n=args.n,
            seed=seed,
            sampling=sampling,
            new_track=new_track,
            progress=progress.windows,
        )
        progress.say("writing")
        for fill, (midi, wav) in zip(fills, targets, strict=True):
            write_whole(midi, fill.midi)
            if wav:
                write_whole(wav, _sound(song, region, fill))
    for fill, (midi, wav) in zip(fills, targets, strict=True):
        print(f"{midi}{f' and {wav}' if wav else ''}: {_summary(song, fill, new_track, only=args.only)}")
    print(f"{len(fills)} {'fill' if len(fills) == 1 else 'fills'} in {time.perf_counter() - started:.1f} s")
    return 0


def listing(song: Song) -> str:
    """Return a song's tracks, bars and beats as a person reads them."""
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
    """Return where each candidate's MIDI and sound go; raises FileError where they cannot."""
    if not 1 <= args.n <= MAX_CANDIDATES:
        raise ControlError(f"--n {args.n} is out of range; ask for 1 to {MAX_CANDIDATES} fills")
    if args.output is None:
        raise RegionError("say where to write the filled song with -o OUT.mid, or look at the song with --list")
    pairs = [(_numbered(args.output, i, args.n), args.wav and _numbered(args.wav, i, args.n)) for i in range(args.n)]
    for path in [path for pair in pairs for path in pair if path]:
        check_output(path, inputs=[args.song], force=args.force)
    return pairs


def _numbered(path: Path, index: int, count: int) -> Path:
    return path if count == 1 else path.with_name(f"{path.stem}.{index + 1}{path.suffix}")


def _region(args: argparse.Namespace, song: Song) -> tuple[Region, Track | None]:
    from harmonixr_model.music.region import Cell, Region
    from harmonixr_model.music.region_text import read_region

    if not (args.bars or args.beats or args.continue_bars is not None):
        last = len(song.score.bars)
        raise RegionError(f"say what to fill: --bars within 1-{last}, --beats, or --continue N; --list shows the song")
    low, high = _band(args.band)
    tracks = ["1"] if args.new_track else args.tracks
    region = read_region(
        song,
        bars=args.bars,
        beats=args.beats,
        continue_bars=args.continue_bars,
        tracks=tracks,
        pitch_low=low,
        pitch_high=high,
        locks=[_lock(text) for text in args.lock],
    )
    if not args.new_track:
        return region, None
    if args.lock:
        raise RegionError("a new track has no notes to lock; leave --lock out")
    cells = tuple(Cell(len(song.score.tracks), cell.start, cell.end) for cell in region.cells)
    return Region(cells, low, high), _new_track(args.new_track)


def _band(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 127
    low, _, high = text.partition("-")
    if not (low.strip().isdecimal() and (high or low).strip().isdecimal()):
        raise RegionError(f"cannot read the band {text!r}; write two MIDI pitches, such as 60-72")
    return int(low), int(high or low)


def _lock(text: str) -> tuple[str, int, int]:
    track, *numbers = text.rsplit(":", 2)
    if len(numbers) != 2 or not all(number.strip().isdecimal() for number in numbers):
        raise RegionError(f"cannot read the lock {text!r}; write TRACK:TICK:PITCH, such as 2:3840:60")
    return track, int(numbers[0]), int(numbers[1])


def _new_track(text: str) -> Track:
    from harmonixr_model.music.score import Track

    if text.strip().casefold() == "drums":
        return Track(is_drum=True, name="Drums")
    from pretty_midi import instrument_name_to_program, program_to_instrument_name

    if text.strip().isdecimal():
        program = int(text)
    else:
        with contextlib.suppress(ValueError):
            program = instrument_name_to_program(text.strip())
            return Track(program=program, name=program_to_instrument_name(program))
        raise ControlError(
            f"there is no instrument {text!r}; give a program 0-127, a General MIDI name such as 'Acoustic Bass', "
            "or 'drums'"
        )
    if program > 127:
        raise ControlError(f"program {program} is out of range; give 0-127, as in the file")
    return Track(program=program, name=program_to_instrument_name(program))


def _limits(args: argparse.Namespace) -> Constraints:
    from harmonixr_model.grammar.constraints import Constraints
    from harmonixr_model.music.harmony import read_key, scale_of

    return Constraints(
        pitch_min=args.pitch_min,
        pitch_max=args.pitch_max,
        scale=None if args.key is None else tuple(sorted(scale_of(read_key(args.key)))),
        max_polyphony=args.max_polyphony,
        min_notes_per_bar=args.min_notes_per_bar,
        max_notes_per_bar=args.max_notes_per_bar,
        velocity_min=args.velocity_min,
        velocity_max=args.velocity_max,
    )


def _controls(args: argparse.Namespace) -> AttributeControls:
    from harmonixr_model.music.harmony import read_key
    from harmonixr_model.prompt.controls import AttributeControls, read_chords

    controls = AttributeControls(
        density=args.density,
        polyphony=args.polyphony,
        velocity=args.velocity,
        chords=() if args.chords is None else read_chords(args.chords),
        chord_tones_only=args.chord_tones_only,
        enforce=args.enforce,
        key=None if args.key_hint is None else read_key(args.key_hint),
        style=args.style,
        composer=args.composer,
    )
    if args.guidance not in (None, 1) and not controls.asked:
        raise ControlError("--guidance leans towards what is asked for; ask for something, such as --density 2")
    return controls


def _sampling(args: argparse.Namespace) -> Sampling:
    from harmonixr_model.engine.engine import Sampling

    return Sampling(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        guidance=args.guidance,
        copy_strength=args.copy_strength,
    )


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
    what = "left as they were that" if only else "dropped that"
    dropped = f", {fill.dropped} {what} would have touched other notes" if fill.dropped else ""
    return f"{text}{dropped}, seed {fill.seed}"


class _Progress:
    """One line on standard error: it moves on a terminal, elsewhere each stage is a line."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        if self._is_terminal:
            print(f"\r\x1b[K{text} …", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def windows(self, done: int, total: int) -> None:
        self.say(f"filling, {done} of {total} windows")
